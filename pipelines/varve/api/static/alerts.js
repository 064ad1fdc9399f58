// The page of alerts: when each fired and for how long, and every change of its state.

import { ask } from "./client.js";
import { clock, seriesName, shortNumber } from "./format.js";
import { $, attempt, element, fillChoice, fillFacts, fillTable, length, setUpFrame, showChosen, tag } from "./frame.js";

const RANGES = { "6h": 21600, "1d": 86400, "7d": 604800, "30d": 2592000 };
const MOST = 5000; // changes that are asked for
const REFRESH_MS = 15_000;
const AROUND_S = 1800; // of a time that it fired, in its query

const given = new URLSearchParams(location.search);
const match = given.get("match[]"); // of some alerts only: a link from a notification
let range = given.get("range") in RANGES ? given.get("range") : "7d";
let chosen = given.get("alert");
let stretches = [];
let isAll = true;

// For tests: what is shown, and how often it was fetched.
window.varve = { stretches: () => stretches, chosen: () => chosen, answers: 0 };

function start() {
  setUpFrame(() => {});
  fillChoice($("ranges"), Object.keys(RANGES), chooseRange);
  showChosen($("ranges"), range);
  $("all").hidden = !match;
  $("filter").oninput = show;
  refresh();
  setInterval(() => document.hidden || refresh(), REFRESH_MS);
}

async function refresh() {
  const now = Date.now() / 1000;
  const done = await attempt(async () => {
    const asked = { start: now - RANGES[range], end: now + 60, limit: MOST, ...(match && { "match[]": match }) };
    const changes = (await ask("alerts/history", asked)).data;
    isAll = changes.length < MOST;
    stretches = stretchesOf(changes);
  });
  window.varve.answers++;
  if (!done) return;
  if (!stretches.some((one) => one.key === chosen)) chosen = match && stretches.length ? stretches[0].key : null;
  show();
}

// Changes that belong together: from when an alert is pending or fires until it is over, the newest first.
function stretchesOf(changes) {
  const open = new Map();
  const found = [];
  const reviews = [];
  for (const change of [...changes].reverse()) {
    const alert = `${change.rule_group ?? ""} ${change.fingerprint}`;
    if (change.review) {
      reviews.push([alert, change]);
      continue;
    }
    let stretch = open.get(alert);
    if (!stretch) {
      stretch = { key: `${change.fingerprint}-${change.starts_at}`, alert, changes: [], fired: null, ended: null };
      found.push(stretch);
      open.set(alert, stretch);
    }
    stretch.changes.push(change);
    if (change.state === "firing") stretch.fired ??= change.evaluated_at;
    if (change.state === "resolved" || change.state === "inactive") {
      stretch.ended = change.ends_at ?? change.evaluated_at;
      if (change.state === "resolved") stretch.fired ??= change.starts_at; // its beginning lies before the range
      open.delete(alert);
    }
  }
  for (const [alert, change] of reviews) {
    found.findLast((one) => one.alert === alert && one.changes[0].evaluated_at <= change.evaluated_at)?.changes.push(change);
  }
  return found.reverse();
}

const newest = (stretch) => stretch.changes.findLast((change) => !change.review);
const stateOf = (stretch) => {
  const change = newest(stretch);
  const isOver = change.state === "firing" && change.rule_group === null && change.ends_at !== null && change.ends_at < Date.now();
  return isOver ? "resolved" : change.state;
};
const nameOf = ({ labels }) => labels.alertname;
const labelsOf = ({ labels }) => {
  const { alertname, ...others } = labels;
  return seriesName(others);
};

function choose(key) {
  chosen = key;
  keepAddress();
  show();
}

function chooseRange(value) {
  range = value;
  showChosen($("ranges"), range);
  keepAddress();
  refresh();
}

function keepAddress() {
  const kept = { range, ...(match && { "match[]": match }), ...(chosen && { alert: chosen }) };
  history.replaceState(null, "", "?" + new URLSearchParams(kept));
}

function show() {
  const wanted = $("filter").value.toLowerCase();
  const text = (one) => `${nameOf(newest(one))} ${labelsOf(newest(one))}`.toLowerCase();
  const shown = stretches.filter((one) => text(one).includes(wanted));
  const firing = shown.filter((one) => stateOf(one) === "firing").length;
  $("counts").replaceChildren(
    element("b", { text: String(firing) }), " firing, ", element("b", { text: String(shown.length) }),
    isAll ? " in all" : ` of the last ${MOST} changes`,
  );
  $("none").hidden = shown.length > 0;
  $("none").textContent = stretches.length ? "No alert has this in its name or labels." : "No alert changed its state in this time.";
  const columns = [
    { name: "", kind: "text", cell: (one) => tag(stateOf(one)) },
    { name: "alert", kind: "text", cell: (one) => nameOf(newest(one)) },
    { name: "labels", kind: "", cell: (one) => labelsOf(newest(one)) },
    { name: "since", kind: "value", cell: (one) => clock(one.changes[0].starts_at / 1000, true) },
    { name: "fired for", kind: "value", cell: firedFor },
  ];
  fillTable($("list"), columns, shown, (one) => one.key, chosen, choose);
  $("list").hidden = !shown.length;
  showAlert();
}

function firedFor(one) {
  if (one.fired === null) return "";
  return length((one.ended ?? Date.now()) - one.fired) + (one.ended === null ? ", still" : "");
}

function showAlert() {
  const one = stretches.find((stretch) => stretch.key === chosen);
  $("alert").hidden = !one;
  if (!one) return;
  const change = newest(one);
  $("name").textContent = `${nameOf(change)} ${labelsOf(change)}`;
  const isOfRule = change.rule_group !== null;
  $("query").hidden = !isOfRule;
  const matchers = Object.entries(change.labels).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
  const end = Math.ceil((one.ended ?? Date.now()) / 1000);
  const lasts = end - one.changes[0].starts_at / 1000;
  $("query").href = "./?" + new URLSearchParams({
    expr: `ALERTS{${matchers.join(", ")}}`, range: String(Math.ceil(lasts + 2 * AROUND_S)), end: String(end + (one.ended ? AROUND_S : 0)),
  });
  const times = stretches.filter((other) => other.alert === one.alert && other.fired !== null).length;
  fillFacts($("facts"), [
    ["state", stateOf(one)],
    ["fired for", firedFor(one) || "it did not fire"],
    [`times in ${range}`, String(times)],
    ["told by", isOfRule ? change.rule_group.replace(";", ", group ") : "a job, by the topic alerts"],
    ...Object.entries(change.annotations),
  ]);
  const columns = [
    { name: "at", kind: "value", cell: (row) => clock(row.evaluated_at / 1000, true) },
    { name: "", kind: "text", cell: (row) => tag(row.review ? "reviewed" : row.state, row.review ? `should be ${row.state}` : row.state) },
    { name: "value", kind: "value", cell: (row) => (row.value === null ? "" : shortNumber(Number(row.value))) },
    { name: "", kind: "text", cell: saysOf },
  ];
  const rows = [...one.changes].sort((a, b) => b.evaluated_at - a.evaluated_at || Boolean(b.review) - Boolean(a.review));
  fillTable($("changes"), columns, rows, (row) => row.event_id, null, () => {});
}

function saysOf(row) {
  if (row.review === "same") return "with all of its data: the same";
  if (row.review === "different") return "with all of its data: different";
  return [row.incomplete && "before all of its data was there", row.late && "made up for later"].filter(Boolean).join(", ");
}

start();
