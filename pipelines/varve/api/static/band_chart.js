// A chart of one series: its value, what was expected of it, and the band it should be in.

import { ask } from "./client.js";
import { axisNumbers, axisTimes, clock, shortNumber } from "./format.js";
import { element } from "./frame.js";

const HEIGHT = 320;

// The values at each time of a range, of the one series with just these labels; null where there are none. ignored:
// labels that do not count.
export async function valuesOf(query, times, tags, ignored = []) {
  const { data } = await ask("query_range", { query, ...times });
  const points = Math.round((times.end - times.start) / times.step) + 1;
  const values = new Array(points).fill(null);
  const wanted = JSON.stringify(sorted(tags));
  for (const { metric, values: found } of data.result) {
    const labels = Object.fromEntries(Object.entries(metric).filter(([name]) => name !== "__name__" && !ignored.includes(name)));
    if (JSON.stringify(sorted(labels)) !== wanted) continue;
    for (const [at, text] of found) {
      const value = Number(text.replace("Inf", "Infinity"));
      if (Number.isFinite(value)) values[Math.round((at - times.start) / times.step)] = value;
    }
  }
  return values;
}

function sorted(labels) {
  return Object.entries(labels).sort(([one], [other]) => (one < other ? -1 : 1));
}

export class BandChart {
  constructor(plot, keys) {
    this.plot = plot;
    this.keys = keys;
    this.drawn = null;
    new ResizeObserver(() => this.drawn?.setSize({ width: plot.clientWidth, height: HEIGHT })).observe(plot);
  }

  // times: {start, end, step} in Unix seconds. lines: [{name, values, colour, dash}]; band: {name, low, high, colour} of
  // values. spans: [{from, until}] that are shaded; marks: [{at, name}] are upright lines. level: {value, name} or null.
  draw(given) {
    this.given = given;
    const { times, lines, band, level } = given;
    const points = Math.round((times.end - times.start) / times.step) + 1;
    const xs = Array.from({ length: points }, (_, i) => times.start + i * times.step);
    const levels = level ? [new Array(points).fill(level.value)] : [];
    const data = [xs, band.low, band.high, ...levels, ...lines.map((line) => line.values)];
    this.drawn?.destroy();
    this.drawn = new uPlot(this.#options(given), data, this.plot);
    this.#writeKeys(null);
  }

  redraw() {
    if (this.given) this.draw(this.given);
  }

  clear() {
    this.drawn?.destroy();
    this.drawn = this.given = null;
    this.keys.replaceChildren();
  }

  #options({ times, lines, band, level, spans = [], marks = [] }) {
    const ink = css("--ink-soft");
    const axis = { stroke: ink, font: "12px " + css("--sans"), grid: { stroke: css("--line"), width: 1 }, ticks: { show: false } };
    const edge = { stroke: css(band.colour), width: 0.6, points: { show: false } };
    return {
      width: this.plot.clientWidth,
      height: HEIGHT,
      padding: [14, 26, 0, 0],
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { size: 6 } },
      scales: { x: { time: true, range: () => [times.start, times.end] }, y: { range: (_, low, high) => around(low, high) } },
      axes: [
        { ...axis, space: 90, size: 46, values: (_, found, __, ___, apart) => axisTimes(found, apart) },
        { ...axis, size: (_, found) => 18 + 7 * Math.max(5, ...(found ?? []).map((text) => text.length)), values: (_, found) => axisNumbers(found) },
      ],
      bands: [{ series: [2, 1], fill: css(band.colour) + "38" }],
      series: [
        {},
        { ...edge },
        { ...edge },
        ...(level ? [{ stroke: css("--wrong"), width: 1.5, dash: [6, 4], points: { show: false } }] : []),
        ...lines.map((line) => ({ stroke: css(line.colour), width: line.dash ? 1.3 : 1.8, dash: line.dash, points: { show: false } })),
      ],
      hooks: {
        drawClear: [(u) => spans.forEach((span) => shade(u, span))],
        draw: [(u) => marks.forEach((mark) => upright(u, mark))],
        setCursor: [(u) => this.#writeKeys(u.cursor.idx ?? null)],
      },
    };
  }

  // What each colour is, with the values under the cursor.
  #writeKeys(index) {
    const { times, lines, band, level } = this.given;
    const at = index === null ? "" : clock(times.start + index * times.step, true);
    const value = (values) => (index === null ? "" : ` ${shortNumber(values[index])}`);
    const key = (colour, text, kind = "") => {
      const swatch = element("span", { className: `swatch ${kind}` });
      swatch.style.background = `var(${colour})`;
      return element("li", {}, swatch, text);
    };
    this.keys.replaceChildren(
      ...lines.map((line) => key(line.colour, line.name + value(line.values))),
      key(band.colour, index === null ? band.name : `${band.name} ${shortNumber(band.low[index])} to ${shortNumber(band.high[index])}`, "area"),
      ...(level ? [key("--wrong", `${level.name} ${shortNumber(level.value)}`)] : []),
      ...(at ? [element("li", { text: at })] : []),
    );
  }
}

function shade(u, { from, until }) {
  const left = u.valToPos(Math.max(from, u.scales.x.min), "x", true);
  const right = u.valToPos(Math.min(until, u.scales.x.max), "x", true);
  if (right < u.bbox.left || left > u.bbox.left + u.bbox.width) return;
  u.ctx.save();
  u.ctx.globalAlpha = 0.13;
  u.ctx.fillStyle = css("--wrong");
  u.ctx.fillRect(left, u.bbox.top, Math.max(2, right - left), u.bbox.height);
  u.ctx.restore();
}

function upright(u, { at, name }) {
  if (at < u.scales.x.min || at > u.scales.x.max) return;
  const x = Math.round(u.valToPos(at, "x", true));
  u.ctx.save();
  u.ctx.strokeStyle = u.ctx.fillStyle = css("--ink-soft");
  u.ctx.setLineDash([3, 3]);
  u.ctx.beginPath();
  u.ctx.moveTo(x, u.bbox.top);
  u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
  u.ctx.stroke();
  u.ctx.font = `${12 * devicePixelRatio}px ${css("--sans")}`;
  const near = x > u.bbox.left + u.bbox.width * 0.8;
  u.ctx.textAlign = near ? "right" : "left";
  u.ctx.fillText(name, x + (near ? -5 : 5), u.bbox.top + 12 * devicePixelRatio);
  u.ctx.restore();
}

function around(low, high) {
  if (low === null || high === null || !Number.isFinite(high - low)) return [0, 1];
  const margin = (high - low) * 0.08 || Math.abs(high) * 0.1 || 1;
  return [low >= 0 && low - margin < 0 ? 0 : low - margin, high + margin];
}

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
