// Numbers, times and label sets as people read them.

const PREFIXES = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"]];

export function shortNumber(value) {
  if (value === null || value === undefined) return "–";
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 0.001 && size < 10000) return trim(value.toPrecision(4));
  const [unit, prefix] = PREFIXES.find(([unit]) => size >= unit) ?? PREFIXES.at(-1);
  if (size >= 1e16 || size < 1e-10) return value.toExponential(2).replace(/\.?0*e\+?/, "e");
  return trim((value / unit).toPrecision(4)) + prefix;
}

// The marks of an axis, all in the unit that suits the largest.
export function axisNumbers(marks) {
  const largest = Math.max(...marks.map(Math.abs));
  const apart = Math.abs(marks[1] - marks[0]) || largest || 1;
  if (largest >= 1e16 || (largest < 1e-9 && largest > 0)) {
    return marks.map((mark) => (mark === 0 ? "0" : shortest((digits) => mark.toExponential(digits), mark, apart)));
  }
  const [unit, prefix] =
    largest >= 0.01 && largest < 10000 ? [1, ""] : (PREFIXES.find(([unit]) => largest >= unit) ?? [1, ""]);
  const digits = Math.max(...marks.map((mark) => places(mark / unit, apart / unit)));
  return marks.map((mark) => (mark === 0 ? "0" : (mark / unit).toFixed(digits) + prefix));
}

const MOST_PLACES = 12;

// Decimals with which a mark is what it says, to a thousandth of the distance between marks.
function places(value, apart) {
  for (let digits = 0; digits < MOST_PLACES; digits++) {
    if (Math.abs(Number(value.toFixed(digits)) - value) <= apart / 1000) return digits;
  }
  return MOST_PLACES;
}

function shortest(write, value, apart) {
  for (let digits = 0; digits < MOST_PLACES; digits++) {
    const text = write(digits);
    if (Math.abs(Number(text) - value) <= apart / 1000) return text.replace("e+", "e");
  }
  return value.toExponential(MOST_PLACES).replace("e+", "e");
}

// The marks of a time axis, seconds apart by `apart`; the day is said where it begins.
export function axisTimes(marks, apart) {
  let before = "";
  return marks.map((mark) => {
    const date = new Date(mark * 1000);
    const day = date.toLocaleDateString([], { day: "numeric", month: "short" });
    if (apart >= 86400) return day;
    const time = date.toLocaleTimeString([], {
      hour12: false,
      hour: "2-digit",
      minute: "2-digit",
      ...(apart < 60 ? { second: "2-digit" } : {}),
    });
    const first = day !== before;
    before = day;
    return first ? `${time}\n${day}` : time;
  });
}

// The time zone that all times are shown in, and its distance from UTC now: "Europe/Berlin, UTC+1".
export function timeZone() {
  const { timeZone: name } = Intl.DateTimeFormat().resolvedOptions();
  const minutes = -new Date().getTimezoneOffset();
  const hours = Math.trunc(Math.abs(minutes) / 60);
  const rest = Math.abs(minutes) % 60 ? `:${String(Math.abs(minutes) % 60).padStart(2, "0")}` : "";
  const offset = minutes ? `UTC${minutes < 0 ? "−" : "+"}${hours}${rest}` : "UTC";
  return name === offset || !name ? offset : `${name}, ${offset}`;
}

export function clock(seconds, withDate) {
  const date = new Date(seconds * 1000);
  const time = date.toLocaleTimeString([], { hour12: false });
  return withDate ? `${date.toLocaleDateString([], { day: "numeric", month: "short" })} ${time}` : time;
}

export function ago(seconds) {
  if (seconds < 1) return "now";
  if (seconds < 120) return `${Math.round(seconds)} s ago`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} d ago`;
}

// Text with the characters escaped that would hide, break or turn what is beside them: control characters
// and marks of writing direction.
export function visible(text) {
  return text.replace(
    /[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
    (found) => "\\u" + found.charCodeAt(0).toString(16).padStart(4, "0"),
  );
}

export function seriesName(metric) {
  const { __name__: name = "", ...labels } = metric;
  const inside = Object.entries(labels).map(([key, value]) => `${key}="${value}"`);
  return visible(inside.length || !name ? `${name}{${inside.join(", ")}}` : name);
}

// Labels that all series share are said once, above the legend.
export function splitCommon(metrics) {
  if (metrics.length < 2) return { common: {}, rest: metrics };
  const common = { ...metrics[0] };
  for (const metric of metrics) {
    for (const key of Object.keys(common)) if (metric[key] !== common[key]) delete common[key];
  }
  const rest = metrics.map((metric) =>
    Object.fromEntries(Object.entries(metric).filter(([key]) => !(key in common))),
  );
  return { common, rest };
}

// Names without the beginning that all of them share, where it is long: what tells them apart shows.
export function distinctParts(names) {
  if (names.length < 2) return names;
  let shared = names[0].length;
  for (const name of names) {
    let same = 0;
    while (same < shared && name[same] === names[0][same]) same++;
    shared = same;
  }
  // From the start of a word on, so that no value is cut in two.
  const start = names[0].slice(0, shared).search(/[^\s,={/.:_-]*$/);
  return start < LONG ? names : names.map((name) => `…${name.slice(start)}`);
}

const LONG = 16;

function trim(text) {
  return text.includes(".") && !text.includes("e") ? text.replace(/\.?0+$/, "") : text;
}
