// The page of capacity: resources by the days they have left, and the forecast of each.

import { BandChart, valuesOf } from "./band_chart.js";
import { ask } from "./client.js";
import { clock, shortNumber } from "./format.js";
import { $, attempt, days, element, fillFacts, fillTable, setUpFrame, tag } from "./frame.js";

const REFRESH_MS = 60_000;
const WEEK_S = 604_800;
const STEP_S = 1800;
const SAYS = { firing: "runs out", pending: "may run out", clear: "clear" };

const chart = new BandChart($("plot"), $("keys"));
let chosen = new URLSearchParams(location.search).get("resource");
let lines = [];

// For tests: what is shown, and how often it was fetched.
window.varve = { lines: () => lines, chosen: () => chosen, drawn: null, answers: 0 };

const keyOf = (line) => `${line.resource} ${line.series}`;

function start() {
  setUpFrame(() => chart.redraw());
  refresh();
  setInterval(() => document.hidden || refresh(), REFRESH_MS);
}

async function refresh() {
  const done = await attempt(async () => {
    lines = (await ask("capacity", {})).data;
  });
  window.varve.answers++;
  if (!done) return;
  if (!lines.some((line) => keyOf(line) === chosen)) chosen = lines.length ? keyOf(lines[0]) : null;
  show();
  await showForecast();
}

function choose(key) {
  chosen = key;
  history.replaceState(null, "", "?" + new URLSearchParams({ resource: key }));
  show();
  showForecast();
}

function show() {
  const firing = lines.filter((line) => line.state === "firing").length;
  $("counts").replaceChildren(
    element("b", { text: String(firing) }), " of ", element("b", { text: String(lines.length) }), " run out within a week",
  );
  $("none").hidden = lines.length > 0;
  $("none").textContent = "Nothing is forecast yet.\nconf/capacity.toml selects what is, once it has two days of hours.";
  const unit = (line) => (line.is_rate ? "/s" : "");
  const columns = [
    { name: "", kind: "text", cell: (line) => tag(line.state, SAYS[line.state]) },
    { name: "resource", kind: "text", cell: (line) => line.resource },
    { name: "series", kind: "", cell: (line) => line.series },
    { name: "now", kind: "value", cell: (line) => shortNumber(line.value) + unit(line) },
    { name: "threshold", kind: "value", cell: thresholdOf },
    { name: "days left", kind: "value", cell: (line) => days(line.days_left) },
    { name: "at the earliest", kind: "value", cell: (line) => days(line.earliest_days) },
    { name: "probability", kind: "value", cell: (line) => `${Math.round(100 * line.probability)} %` },
  ];
  fillTable($("list"), columns, lines, keyOf, chosen, choose);
  $("list").hidden = !lines.length;
}

function thresholdOf(line) {
  return line.threshold === null ? line.reason : `${line.reached === "above" ? "≥" : "≤"} ${shortNumber(line.threshold)}`;
}

async function showForecast() {
  const line = lines.find((one) => keyOf(one) === chosen);
  $("resource").hidden = !line;
  if (!line) return chart.clear();
  $("name").textContent = line.series;
  $("query").href = "./?" + new URLSearchParams({ expr: line.forecast, range: String(2 * WEEK_S), end: String(Math.floor(Date.now() / 1000) + WEEK_S) });
  fillFacts($("facts"), [
    ["state", SAYS[line.state]],
    ["expected to run out", when(line.reaches_at, line.days_left)],
    ["at the earliest (80 %)", when(line.earliest_at, line.earliest_days)],
    ["probability within a week", `${Math.round(100 * line.probability)} %`],
    ["forecast from hours until", clock(line.trained_until / 1000, true)],
  ]);
  const now = Math.floor(Date.now() / 1000 / STEP_S) * STEP_S;
  const times = { start: now - WEEK_S, end: now + WEEK_S, step: STEP_S };
  await attempt(async () => {
    const quantile = (q) => valuesOf(line.forecast.replace(/\}$/, `, quantile="${q}"}`), times, line.tags, ["metric", "quantile"]);
    const [value, low, middle, high] = await Promise.all([
      valuesOf(line.expression, { ...times, end: now }, line.tags), quantile("0.1"), quantile("0.5"), quantile("0.9"),
    ]);
    if (keyOf(line) !== chosen) return; // another was chosen meanwhile
    const points = middle.length;
    const marks = [{ at: Date.now() / 1000, name: "now" }];
    if (line.reaches_at !== null) marks.push({ at: line.reaches_at / 1000, name: "runs out" });
    chart.draw({
      times,
      lines: [
        { name: "forecast", values: middle, colour: "--series-2", dash: [6, 4] },
        { name: "value", values: [...value, ...new Array(points - value.length).fill(null)], colour: "--series-0" },
      ],
      band: { name: "80 % interval", low, high, colour: "--series-2" },
      level: line.threshold === null ? null : { value: line.threshold, name: "threshold" },
      marks,
    });
    window.varve.drawn = { resource: chosen, value, low, middle, high };
  });
}

function when(at, left) {
  return at === null ? "not within a week" : `${clock(at / 1000, true)} (${days(left)})`;
}

start();
