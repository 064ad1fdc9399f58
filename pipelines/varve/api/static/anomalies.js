// The page of episodes: when which series were not as usual, what was expected, and what people say of it.

import { BandChart, valuesOf } from "./band_chart.js";
import { ask } from "./client.js";
import { axisTimes, clock, seriesName, shortNumber } from "./format.js";
import { $, attempt, element, fillChoice, fillFacts, fillTable, length, setUpFrame, showChosen, tag } from "./frame.js";

const RANGES = { "6h": 21600, "1d": 86400, "3d": 259200, "7d": 604800, "30d": 2592000 };
const PARTS = 6; // of the time axis
const MOST = 500; // episodes that are asked for
const MOST_LANES = 40;
const REFRESH_MS = 15_000;
const AROUND_MS = 2 * 3_600_000; // of an episode, in its chart
const POINTS = 700;
const THRESHOLD = 3; // standard deviations, that of the rules unless they say otherwise

const chart = new BandChart($("plot"), $("keys"));
const given = new URLSearchParams(location.search);
let range = given.get("range") in RANGES ? given.get("range") : "3d";
let chosen = given.get("episode");
let episodes = [];
let until = Date.now();

// For tests: what is shown, and how often it was fetched.
window.varve = { episodes: () => episodes, chosen: () => chosen, drawn: null, answers: 0 };

function start() {
  setUpFrame(() => chart.redraw());
  fillChoice($("ranges"), Object.keys(RANGES), chooseRange);
  showChosen($("ranges"), range);
  $("filter").oninput = show;
  refresh();
  setInterval(() => document.hidden || refresh(), REFRESH_MS);
}

async function refresh() {
  until = Date.now();
  const begin = until / 1000 - RANGES[range];
  const done = await attempt(async () => {
    episodes = (await ask("anomalies/episodes", { start: begin, end: until / 1000 + 60, limit: MOST })).data;
    episodes = episodes.filter((episode) => episode.state !== "withdrawn");
  });
  window.varve.answers++;
  if (!done) return;
  if (!episodes.some((episode) => episode.episode_id === chosen)) chosen = null;
  show();
  if (chosen) await showEpisode();
}

function choose(id) {
  chosen = id;
  keepAddress();
  show();
  showEpisode();
}

function chooseRange(value) {
  range = value;
  showChosen($("ranges"), range);
  keepAddress();
  refresh();
}

function keepAddress() {
  const kept = { range, ...(chosen && { episode: chosen }) };
  history.replaceState(null, "", "?" + new URLSearchParams(kept));
}

const nameOf = (episode) => seriesName({ __name__: episode.metric, ...episode.tags });

function show() {
  const wanted = $("filter").value.toLowerCase();
  const shown = episodes.filter((episode) => nameOf(episode).toLowerCase().includes(wanted));
  const open = shown.filter((episode) => episode.state === "open").length;
  const many = episodes.length >= MOST ? `, the last ${MOST} of them` : "";
  $("counts").replaceChildren(
    element("b", { text: String(shown.length) }), ` episodes${many}, `, element("b", { text: String(open) }), " open",
  );
  $("none").hidden = shown.length > 0;
  $("none").textContent = wanted
    ? "No episode of such a series in this time."
    : "Every series was as usual in this time.\nA series is judged once a day of its minutes is known; conf/anomalies.toml says how.";
  showLanes(shown);
  showList(shown);
}

function showLanes(shown) {
  const bySeries = new Map();
  for (const episode of shown) {
    const name = nameOf(episode);
    if (!bySeries.has(name)) bySeries.set(name, []);
    bySeries.get(name).push(episode);
  }
  const begin = until - RANGES[range] * 1000;
  const lanes = [...bySeries].slice(0, MOST_LANES).map(([name, own]) => {
    const track = element("div", { className: "track" }, ...own.map((episode) => bar(episode, begin)));
    track.style.setProperty("--parts", PARTS);
    const label = element("span", { className: "name", title: name, text: name });
    return element("div", { className: "lane" }, label, track);
  });
  if (lanes.length) lanes.push(timeAxis(begin));
  if (bySeries.size > MOST_LANES) {
    lanes.push(element("p", { className: "nothing-yet", text: `${bySeries.size - MOST_LANES} more series: name some above.` }));
  }
  $("lanes").replaceChildren(...lanes);
}

function bar(episode, begin) {
  const whole = until - begin;
  const from = Math.max(episode.starts_at - 60000, begin);
  const to = episode.state === "open" ? until : Math.max(episode.last_at, from);
  const made = element("button", {
    type: "button",
    "data-episode": episode.episode_id,
    "data-severity": episode.severity,
    "data-state": episode.state,
    "data-label": episode.label ?? "",
    "aria-pressed": String(episode.episode_id === chosen),
    "aria-label": `${episode.severity} episode of ${nameOf(episode)}`,
    title: `${clock(episode.starts_at / 1000, true)}, ${length(to - from)}\n${scoreOf(episode)}`,
  });
  made.style.left = `${(100 * (from - begin)) / whole}%`;
  made.style.width = `${Math.max(0, (100 * (to - from)) / whole)}%`;
  made.onclick = () => choose(episode.episode_id);
  return made;
}

function timeAxis(begin) {
  const apart = (until - begin) / PARTS;
  const marks = Array.from({ length: PARTS + 1 }, (_, i) => (begin + i * apart) / 1000);
  const texts = axisTimes(marks, apart / 1000);
  const times = element("div", { className: "times" }, ...texts.map((text, i) => {
    const mark = element("span", { text: text.replace("\n", " ") });
    mark.style.left = `${(100 * i) / PARTS}%`;
    return mark;
  }));
  return element("div", { className: "lane marks-row" }, element("span"), times);
}

const scoreOf = (episode) =>
  `${shortNumber(episode.value)}${episode.is_rate ? "/s" : ""} where ${shortNumber(episode.expected)}${episode.is_rate ? "/s" : ""} is expected (${episode.score > 0 ? "+" : "−"}${Math.abs(episode.score).toFixed(1)} σ)`;

function showList(shown) {
  const columns = [
    { name: "began", kind: "value text", cell: (e) => clock(e.starts_at / 1000, true) },
    { name: "for", kind: "value text", cell: (e) => (e.state === "open" ? "goes on" : length(e.last_at - e.starts_at + 60000)) },
    { name: "", kind: "text", cell: (e) => tag(e.severity) },
    { name: "series", kind: "", cell: nameOf },
    { name: "furthest minute", kind: "value", cell: scoreOf },
    { name: "rule", kind: "text", cell: (e) => e.rule },
    { name: "said of it", kind: "text", cell: (e) => e.label ?? "" },
  ];
  fillTable($("list"), columns, shown, (episode) => episode.episode_id, chosen, choose);
  $("list").hidden = !shown.length;
}

async function showEpisode() {
  const episode = episodes.find((one) => one.episode_id === chosen);
  $("episode").hidden = !episode;
  if (!episode) return chart.clear();
  $("name").textContent = nameOf(episode);
  const end = episode.state === "open" ? until : episode.last_at;
  fillFacts($("facts"), [
    ["began", clock(episode.starts_at / 1000, true)],
    ["lasted", episode.state === "open" ? `${length(end - episode.starts_at)}, goes on` : length(end - episode.starts_at + 60000)],
    ["furthest minute", scoreOf(episode)],
    ["minutes off", String(episode.windows)],
    ["severity", episode.severity],
    ["rule", episode.rule],
  ]);
  showFeedback(episode);
  const around = Math.max(AROUND_MS, (end - episode.starts_at) / 2);
  const step = Math.max(60, Math.ceil((end - episode.starts_at + 2 * around) / 1000 / POINTS / 60) * 60);
  const align = (ms) => Math.floor(ms / 1000 / step) * step;
  const times = { start: align(episode.starts_at - around), end: align(Math.min(end + around, until)), step };
  await attempt(async () => {
    const { tags } = episode;
    const [value, mean, stddev] = await Promise.all([
      valuesOf(episode.expression, times, tags),
      valuesOf(episode.mean, times, tags, ["metric"]),
      valuesOf(episode.stddev, times, tags, ["metric"]),
    ]);
    if (episode.episode_id !== chosen) return; // another was chosen meanwhile
    const shifted = (sign) => mean.map((at, i) => (at === null || stddev[i] === null ? null : at + sign * THRESHOLD * stddev[i]));
    chart.draw({
      times,
      lines: [
        { name: "expected", values: mean, colour: "--series-2", dash: [6, 4] },
        { name: episode.is_rate ? "growth per second" : "value", values: value, colour: "--series-0" },
      ],
      band: { name: `expected ± ${THRESHOLD} σ`, low: shifted(-1), high: shifted(1), colour: "--series-2" },
      spans: [{ from: episode.starts_at / 1000 - 60, until: end / 1000 }],
    });
    window.varve.drawn = { episode: chosen, value, mean, stddev };
  });
}

function showFeedback(episode) {
  const say = (label, text, title) => {
    const button = element("button", { type: "button", text, title, "data-value": label, "aria-pressed": String(episode.label === label) });
    button.onclick = () =>
      attempt(async () => {
        await ask("anomalies/label", { episode: episode.episode_id, label });
        episode.label = label;
        show();
        showFeedback(episode);
      });
    return button;
  };
  $("feedback").replaceChildren(
    "What was it?",
    say("real", "A real incident", "Counts for the precision of the rule"),
    say("expected", "Expected", "A deployment, a backup: nothing to be told of"),
  );
}

start();
