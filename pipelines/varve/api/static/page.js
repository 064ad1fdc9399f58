// The page: asks what the address and the controls say, and shows the answer.

import { Chart } from "./chart.js";
import { QueryFailure, ask, homeCondition, metricNames, whyNotReady } from "./client.js";
import { Editor } from "./editor.js";
import { Explorer } from "./explorer.js";
import { ago, clock, timeZone } from "./format.js";
import { fillChoice, switchTheme } from "./frame.js";
import { RANGES, REFRESHES, STEPS, readState, spanOf, spell, stateAddress, timesOf } from "./state.js";
import { StorageUsage } from "./storage.js";
import { ResultTable } from "./table.js";

const EXAMPLES = [
  { name: "CPU by mode", expr: 'sum by (mode) (rate(node_cpu_seconds_total{mode!="idle"}[1m]))', range: "5m" },
  { name: "Memory available", expr: "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes", range: "5m" },
  { name: "Network in", expr: "sum by (device) (rate(node_network_receive_bytes_total[1m]))", range: "5m" },
  { name: "Shop requests, 1 day", expr: "sum by (route) (rate(shop_requests_total[5m]))", range: "1d" },
  { name: "Shop requests, 8 days", expr: "sum by (route) (rate(shop_requests_total[1h]))", range: "8d" },
  {
    name: "Shop latency p95, 8 days",
    expr: "histogram_quantile(0.95, sum by (instance, le) (rate(shop_request_duration_seconds_bucket[1h])))",
    range: "8d",
  },
];
// The metrics of docs/operations.md.
const ITSELF = [
  { name: "Samples stored", expr: "sum by (query) (rate(varve_ingest_stored_samples_total[1m]))", range: "5m" },
  { name: "Seconds behind", expr: "time() - varve_ingest_complete_timestamp_seconds", range: "5m" },
  {
    name: "Batch time, p90",
    expr: "histogram_quantile(0.9, sum by (query, le) (rate(varve_ingest_batch_duration_seconds_bucket[5m])))",
    range: "5m",
  },
  { name: "Waiting in Kafka", expr: "sum by (query) (varve_ingest_lag_messages)", range: "5m" },
  {
    name: "Refused, by reason",
    expr: "sum by (reason) (increase(varve_ingest_rejected_samples_total[5m])) > 0",
    range: "1h",
  },
  { name: "CPU, by component", expr: "rate(varve_component_cpu_seconds_total[1m])", range: "5m" },
  { name: "Memory, by component", expr: "varve_component_resident_memory_bytes", range: "5m" },
];
const FIRST_RETRY_S = 1;
const LONGEST_RETRY_S = 15;
const CONDITION_S = 5; // how often the page asks what runs
const WELL = ["ready", "stopped"]; // what had an end and has reached it is well, too

const $ = (id) => document.getElementById(id);
const chart = new Chart($("plot"), $("legend"), zoomTo);
const table = new ResultTable($("table"));
const editor = new Editor($("expression"), $("marks"), $("hints"), metricNames, run);

const explorer = new Explorer(
  $("metrics"),
  () => spanOf(state, Date.now() / 1000),
  (expr) => {
    editor.text = expr;
    run();
  },
);

let state = readState(location.search);
let asking = null; // AbortController of the question under way
let timer = 0;
let retryS = FIRST_RETRY_S; // until the question is asked again, while the service is away
let completeUntil = null;

// For tests: what the last answer drew. {expr, times, series: [{name, values}]}, null before. marks():
// texts of the value axis.
window.varve = { plotted: null, table: null, error: null, answers: 0, marks: () => chart.marks };

function start() {
  fillChoice($("ranges"), Object.keys(RANGES), (value) => change({ range: value }));
  for (const tab of $("tabs").children) tab.onclick = () => change({ tab: tab.dataset.value });
  fillSelect($("step"), STEPS, (value) => change({ step: value }));
  fillSelect($("refresh"), Object.keys(REFRESHES), (value) => change({ refresh: value }));
  $("start").onchange = $("end").onchange = chooseSpan;
  $("zone").textContent = timeZone();
  $("pick").onclick = () => change({ end: String(Math.floor(Date.now() / 1000)) });
  $("now").onclick = () => change({ end: "" });
  $("ask").onsubmit = (event) => {
    event.preventDefault();
    run();
  };
  fillExamples($("examples"), EXAMPLES);
  fillExamples($("itself"), ITSELF);
  $("stored").onclick = () => new StorageUsage($("storage")).open();
  $("explore").onclick = () => explorer.open();
  $("theme").onclick = () => {
    switchTheme();
    chart.redraw();
  };
  window.onpopstate = () => {
    state = readState(location.search);
    showState();
    query();
  };
  document.onvisibilitychange = () => document.hidden || query();
  setInterval(showFreshness, 1000);
  watchCondition();
  if (!state.expr) state.expr = EXAMPLES[0].expr;
  if (!location.search) state.range = EXAMPLES[0].range;
  showState();
  query();
}

function run() {
  change({ expr: editor.text.trim() });
}

function change(changes) {
  state = { ...state, expr: editor.text.trim(), ...changes };
  history.pushState(null, "", stateAddress(state));
  showState();
  query();
}

function zoomTo(begin, end) {
  change({ range: String(Math.max(1, Math.round(end - begin))), end: String(Math.round(end)) });
}

// Start and end as they stand in the inputs; an end before its start moves the start.
function chooseSpan() {
  const [start, end] = [$("start"), $("end")].map((input) => new Date(input.value).getTime() / 1000);
  if (!Number.isFinite(end)) return change({ end: "" });
  const range = end - start;
  change({ end: String(end), ...(range > 0 ? { range: String(range) } : {}) });
}

function showState() {
  if (editor.text.trim() !== state.expr) editor.text = state.expr;
  for (const button of [...$("ranges").children, ...$("tabs").children]) {
    const on = button.dataset.value === state.range || button.dataset.value === state.tab;
    button.setAttribute(button.role === "tab" ? "aria-selected" : "aria-pressed", String(on));
  }
  if (!STEPS.includes(state.step)) $("step").add(new Option(state.step, state.step));
  $("step").value = state.step;
  $("refresh").value = state.refresh;
  const { start, end } = spanOf(state, Date.now() / 1000);
  $("start").value = state.end === "" ? "" : local(start);
  $("end").value = state.end === "" ? "" : local(end);
  $("pick").hidden = state.end !== "";
  const graph = state.tab === "graph";
  $("graph").hidden = !graph;
  $("table").hidden = graph;
  for (const control of document.querySelectorAll(".graph-only, .own")) {
    const { classList } = control;
    const other = (classList.contains("graph-only") && !graph) || (classList.contains("own") && state.end === "");
    control.hidden = other;
  }
  document.title = state.expr ? `${state.expr} · Varve` : "Varve";
}

async function query() {
  clearTimeout(timer);
  asking?.abort();
  if (!state.expr) return showNothing("Type an expression, or choose an example.");
  const mine = (asking = new AbortController());
  $("answer").ariaBusy = "true";
  try {
    await (state.tab === "graph" ? queryGraph(mine.signal) : queryTable(mine.signal));
    showError(null);
    retryS = FIRST_RETRY_S;
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof QueryFailure)) throw error;
    const waiting = error.passing ? await whyNotReady().catch(() => "") : "";
    if (mine !== asking) return;
    $("nothing").hidden = true; // whether there are series is not known
    if (error.passing) {
      showError(new QueryFailure(`${waiting || error.message} Trying again in ${spell(retryS)}.`));
      timer = setTimeout(query, retryS * 1000);
      retryS = Math.min(retryS * 2, LONGEST_RETRY_S);
      return;
    }
    showError(error);
  } finally {
    if (mine === asking) $("answer").ariaBusy = "false";
  }
  const every = REFRESHES[state.refresh];
  if (every && state.end === "" && !document.hidden) timer = setTimeout(query, every * 1000);
}

async function queryGraph(signal) {
  const times = timesOf(state, Date.now() / 1000, $("plot").clientWidth || 800);
  const answer = await ask("query_range", { query: state.expr, ...times }, signal);
  const { result } = answer.data;
  if (result.length) chart.draw(result, times);
  else chart.clear();
  $("nothing").hidden = true;
  if (!result.length) {
    showNothing(`No series between ${clock(times.start, true)} and ${clock(times.end, true)}.`, answer.infos);
  }
  const points = result.reduce((sum, series) => sum + (series.values?.length ?? 0), 0);
  showProvenance(answer, `${result.length} series · ${points.toLocaleString()} points, ${spell(times.step)} apart`);
  window.varve.plotted = {
    expr: state.expr,
    times,
    series: chart.series.map(({ name, values }) => ({ name, values })),
  };
}

async function queryTable(signal) {
  const time = state.end === "" ? Date.now() / 1000 : Number(state.end);
  const answer = await ask("query", { query: state.expr, time }, signal);
  const { resultType, result } = answer.data;
  const empty = resultType !== "scalar" && resultType !== "string" && !result.length;
  if (empty) {
    table.clear();
    showNothing(`No series at ${clock(time, true)}.`, answer.infos);
  } else {
    $("nothing").hidden = true;
    table.show(answer.data);
  }
  showProvenance(answer, empty || !Array.isArray(result) ? resultType : `${result.length} rows · ${resultType}`);
  window.varve.table = answer.data;
}

// infos: why, if the service could tell.
function showNothing(text, infos = []) {
  chart.clear();
  table.clear();
  $("nothing").textContent = [text, ...infos.map(plainInfo)].join("\n");
  $("nothing").hidden = false;
}

function showError(error) {
  $("error").hidden = !error;
  $("error").textContent = error ? error.message.replace('invalid parameter "query": ', "") : "";
  $("expression").ariaInvalid = String(Boolean(error));
  $("answer").classList.toggle("outdated", Boolean(error));
  editor.unmark();
  if (error?.position) editor.mark(error.position);
  window.varve.error = error ? error.message : null;
  window.varve.answers += 1;
}

function showProvenance(answer, size) {
  const { provenance, milliseconds } = answer;
  completeUntil = provenance.complete_until;
  const until = completeUntil === null ? "not known yet" : clock(completeUntil / 1000, true);
  const snapshot = document.createElement("code");
  snapshot.textContent = provenance.snapshot;
  snapshot.title = "The versions of the tables that this answer was read from";
  const facts = [`complete until ${until}`, `${provenance.tier} samples`, size, `${milliseconds.toFixed(0)} ms`];
  if (provenance.cached) facts.push(`${provenance.cached} steps kept`);
  if (provenance.selectors.some((selector) => selector.by_spark)) facts.push("computed by Spark");
  $("provenance").replaceChildren(facts.join(" · ") + " · snapshot ", snapshot);
  // The infos of an empty answer say why it is: they stand in its place.
  const infos = answer.data.result.length ? (answer.infos ?? []) : [];
  const notes = [...(answer.warnings ?? []), ...infos];
  $("notes").hidden = !notes.length;
  $("notes").textContent = notes.join("\n");
  showFreshness();
}

function plainInfo(text) {
  const plain = text.replace("PromQL info: ", "");
  return `${plain[0].toUpperCase()}${plain.slice(1)}.`;
}

function showFreshness() {
  const fresh = $("fresh");
  if (completeUntil === null) {
    fresh.textContent = "";
    return;
  }
  const behind = Math.max(0, Date.now() - completeUntil) / 1000;
  fresh.textContent = `complete until ${ago(behind)}`;
  fresh.dataset.state = behind < 15 ? "live" : behind < 120 ? "behind" : "old";
}

async function watchCondition() {
  // A page that nobody sees asks nothing; it asks at once when it is seen again.
  if (!document.hidden) showCondition(await homeCondition());
  setTimeout(watchCondition, CONDITION_S * 1000);
}

// condition: as of homeCondition. Nothing is said while all runs, or while it is not known.
function showCondition(condition) {
  const well = condition === null || condition.state === "ready";
  $("condition").hidden = well;
  if (well) return $("condition-said").replaceChildren();
  const wrong = condition.components.filter(({ name, state }) => name !== "up" && !WELL.includes(state));
  const said = [condition.state, wrong.map(({ name, state }) => `${name} ${state}`).join(", ")];
  const text = said.filter(Boolean).join(": ");
  // What has not changed is not read out again.
  if ($("condition-said").textContent !== text) $("condition-said").textContent = text;
  $("condition").dataset.state = condition.state;
  const told = wrong.length ? wrong : condition.components;
  $("condition-why").replaceChildren(
    ...told.map(({ name, state, note }) => {
      const item = document.createElement("li");
      item.textContent = note ? `${name} ${state}: ${note}` : `${name} ${state}`;
      return item;
    }),
  );
}

function fillExamples(place, examples) {
  for (const example of examples) {
    const chip = document.createElement("button");
    chip.type = "button";
    chip.textContent = example.name;
    chip.title = example.expr;
    chip.onclick = () => {
      editor.text = example.expr;
      change({ expr: example.expr, range: example.range, end: "", step: "auto", tab: "graph" });
    };
    place.append(chip);
  }
}

function fillSelect(place, values, choose) {
  for (const value of values) place.add(new Option(value, value));
  place.onchange = () => choose(place.value);
}

// For an input of type datetime-local.
function local(seconds) {
  const date = new Date(seconds * 1000);
  return new Date(date - date.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
}

start();
