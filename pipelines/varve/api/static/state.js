// What is asked for. The address holds all of it, so that a link shows the same to anybody.

export const RANGES = { "5m": 300, "1h": 3600, "6h": 21600, "1d": 86400, "8d": 691200 };
export const STEPS = ["auto", "1s", "5s", "15s", "1m", "5m", "15m", "1h"];
export const REFRESHES = { off: 0, "2s": 2, "5s": 5, "15s": 15, "1m": 60 };

const UNITS = { s: 1, m: 60, h: 3600, d: 86400 };
const NICE_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400];
const MOST_POINTS = 11000;
// Seconds from 1970 that the service and Date know, and a range that begins there, too.
const FARTHEST = 9e9;
const LONGEST = 2e8;

export const DEFAULTS = {
  expr: "",
  range: "1h", // a key of RANGES, or a number of seconds
  end: "", // Unix seconds; "" is now
  step: "auto",
  refresh: "5s",
  tab: "graph",
};

export function readState(search) {
  const given = new URLSearchParams(search);
  const state = { ...DEFAULTS };
  for (const key of Object.keys(DEFAULTS)) if (given.has(key)) state[key] = given.get(key);
  const range = rangeSeconds(state.range);
  if (!(range > 0 && range <= LONGEST)) state.range = DEFAULTS.range;
  if (!STEPS.includes(state.step) && !(seconds(state.step) > 0)) state.step = "auto";
  if (!(state.refresh in REFRESHES)) state.refresh = "off";
  if (state.tab !== "table") state.tab = "graph";
  if (state.end && !(Math.abs(Number(state.end)) <= FARTHEST)) state.end = "";
  return state;
}

// The start and end that the state means now, Unix seconds.
export function spanOf(state, nowSeconds) {
  const end = state.end === "" ? nowSeconds : Number(state.end);
  return { start: end - rangeSeconds(state.range), end };
}

export function stateAddress(state) {
  const kept = Object.entries(state).filter(([key, value]) => value !== DEFAULTS[key]);
  return kept.length ? "?" + new URLSearchParams(kept) : location.pathname;
}

export function rangeSeconds(range) {
  return RANGES[range] ?? Number(range);
}

// The times to ask for. Aligned to the step, so that points stay where they are on a refresh.
export function timesOf(state, nowSeconds, widthPixels) {
  const range = rangeSeconds(state.range);
  const wanted = state.step === "auto" ? range / Math.max(100, widthPixels) : seconds(state.step);
  const least = Math.max(wanted, range / MOST_POINTS);
  const step = state.step === "auto" || wanted < least ? nice(least) : wanted;
  const until = state.end === "" ? nowSeconds : Number(state.end);
  const end = Math.floor(until / step) * step;
  return { start: end - Math.floor(range / step) * step, end, step };
}

export function seconds(text) {
  const match = /^(\d+(?:\.\d+)?)([smhd]?)$/.exec(text);
  return match ? Number(match[1]) * (UNITS[match[2]] ?? 1) : NaN;
}

export function spell(total) {
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["m", 60]]) {
    if (total >= size && total % size === 0) return total / size + unit;
  }
  return Math.round(total * 1000) / 1000 + "s";
}

function nice(least) {
  return NICE_STEPS.find((step) => step >= least) ?? Math.ceil(least / 86400) * 86400;
}
