// The line chart and its legend.

import { axisNumbers, axisTimes, clock, distinctParts, seriesName, shortNumber, splitCommon, visible } from "./format.js";

const HEIGHT = 360;
const COLOURS = 10;
const LEGEND_ROWS = 50;

export class Chart {
  // onZoom(start, end): a span of the chart was dragged over, Unix seconds.
  constructor(plot, legend, onZoom) {
    this.plot = plot;
    this.legend = legend;
    this.onZoom = onZoom;
    this.hidden = new Set(); // names of series switched off, kept from one answer to the next
    this.series = [];
    this.marks = []; // texts of the value axis
    this.drawn = null;
    new ResizeObserver(() => this.#resize()).observe(plot);
  }

  // matrix: Prometheus' result; times: {start, end, step} in Unix seconds.
  draw(matrix, times) {
    const names = matrix.map((series) => seriesName(series.metric));
    const points = Math.round((times.end - times.start) / times.step) + 1;
    const xs = Array.from({ length: points }, (_, i) => times.start + i * times.step);
    const { common, rest } = splitCommon(matrix.map((series) => series.metric));
    const keys = new Set(rest.flatMap(Object.keys));
    const only = keys.size === 1 ? [...keys][0] : null; // its values are names enough
    this.times = times;
    this.head = legendHead(matrix.length, common, only);
    const labels = distinctParts(
      rest.map((labels, i) => (only ? visible(labels[only] ?? `no ${only}`) : legendName(labels, names[i]))),
    );
    this.series = matrix.map((series, i) => {
      const values = column(series.values ?? [], times, points);
      return { name: names[i], label: labels[i], values, last: lastOf(series.values), ...statistics(values) };
    });
    this.data = [xs, ...this.series.map((series) => series.values)];
    const shape = JSON.stringify([names, document.documentElement.dataset.theme]);
    if (this.drawn && this.shape === shape) {
      this.drawn.setData(this.data, false);
      this.drawn.setScale("x", { min: times.start, max: times.end });
    } else {
      this.drawn?.destroy();
      this.drawn = new uPlot(this.#options(), this.data, this.plot);
      this.shape = shape;
    }
    this.#writeLegend(null);
  }

  clear() {
    this.drawn?.destroy();
    this.drawn = null;
    this.series = [];
    this.legend.replaceChildren();
  }

  redraw() {
    if (!this.drawn) return;
    this.drawn.destroy();
    this.drawn = new uPlot(this.#options(), this.data, this.plot);
    this.shape = undefined;
    this.#writeLegend(null);
  }

  #options() {
    const ink = css("--ink-soft");
    const line = css("--line");
    const axis = { stroke: ink, font: "12px " + css("--sans"), grid: { stroke: line, width: 1 }, ticks: { show: false } };
    return {
      width: this.plot.clientWidth,
      height: HEIGHT,
      padding: [12, 26, 0, 0],
      legend: { show: false },
      focus: { alpha: 0.25 },
      cursor: {
        focus: { prox: 30 },
        drag: { x: true, y: false, setScale: false },
        points: { size: 7 },
      },
      scales: {
        x: { time: true, range: () => [this.times.start, this.times.end] },
        y: { range: (_, low, high) => bounds(low, high) },
      },
      axes: [
        { ...axis, space: 90, size: 46, values: (_, marks, __, ___, apart) => axisTimes(marks, apart) },
        {
          ...axis,
          size: widthOf,
          incrs: (_, __, low, high, pixels, space) => [markDistance(low, high, pixels, space)],
          splits: (_, __, low, high, apart) => marksBetween(low, high, apart),
          values: (_, marks) => (this.marks = axisNumbers(marks)),
        },
      ],
      series: [
        {},
        ...this.series.map((series, i) => ({
          label: series.name,
          show: !this.hidden.has(series.name),
          stroke: colour(i),
          width: this.series.length > 30 ? 1 : 1.5,
          dash: DASHES[Math.floor(i / COLOURS) % DASHES.length],
          points: { show: false, size: 4, filter: alone },
        })),
      ],
      hooks: {
        setSelect: [(u) => this.#zoom(u)],
        setCursor: [(u) => this.#writeLegend(u.cursor.idx ?? null)],
        setSeries: [(_, index) => this.#focus(index)],
      },
    };
  }

  #zoom(u) {
    if (u.select.width < 4) return;
    const start = u.posToVal(u.select.left, "x");
    const end = u.posToVal(u.select.left + u.select.width, "x");
    u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.onZoom(start, end);
  }

  #focus(index) {
    for (const row of this.legend.querySelectorAll("button[data-series]")) {
      row.classList.toggle("focused", index !== null && Number(row.dataset.series) === index - 1);
    }
  }

  // Values under the cursor, or each series' last one.
  #writeLegend(index) {
    if (index === this.legendIndex && index === null && this.legendShape === this.data) return;
    this.legendIndex = index;
    if (this.legendShape !== this.data) this.#buildLegend();
    const when = index === null ? "last" : clock(this.data[0][index], this.times.end - this.times.start > 86400);
    this.legend.querySelector(".when").textContent = when;
    for (const row of this.legend.querySelectorAll("button[data-series]")) {
      const { values, last } = this.series[row.dataset.series];
      const value = index === null ? last : values[index];
      row.querySelector(".value").textContent = shortNumber(value);
    }
  }

  #buildLegend() {
    this.legendShape = this.data;
    const head = element("div", "legend-head");
    head.append(element("span", "shared", this.head));
    for (const name of STATISTICS) head.append(element("span", "number", name));
    head.append(element("span", "number when"));
    const shown = this.all ? this.series : this.series.slice(0, LEGEND_ROWS);
    const rows = shown.map((series, i) => this.#row(series, i));
    this.legend.replaceChildren(head, ...rows);
    if (shown.length < this.series.length) {
      const more = element("button", "more", `show all ${this.series.length}`);
      more.type = "button";
      more.onclick = () => {
        this.all = true;
        this.legendShape = null;
        this.#writeLegend(null);
      };
      this.legend.append(more);
    }
  }

  #row(series, i) {
    const row = element("button", "series");
    row.type = "button";
    row.dataset.series = i;
    row.title = `${series.name}\nClick: only this one or all. With Ctrl: on or off.`;
    row.setAttribute("aria-pressed", String(!this.hidden.has(series.name)));
    const swatch = element("span", "swatch");
    swatch.style.background = `var(--series-${i % COLOURS})`;
    row.append(swatch, element("span", "name", series.label));
    for (const name of STATISTICS) row.append(element("span", `number ${name}`, shortNumber(series[name])));
    row.append(element("span", "number value"));
    row.onclick = (event) => this.#toggle(series.name, event.ctrlKey || event.metaKey);
    row.onmouseenter = () => this.drawn.setSeries(i + 1, { focus: true });
    row.onmouseleave = () => this.drawn.setSeries(null, { focus: true });
    return row;
  }

  #toggle(name, alone) {
    const visible = this.series.filter((series) => !this.hidden.has(series.name));
    if (alone) {
      if (!this.hidden.delete(name)) this.hidden.add(name);
    } else if (visible.length === 1 && visible[0].name === name) {
      this.hidden.clear();
    } else {
      this.hidden = new Set(this.series.map((series) => series.name).filter((other) => other !== name));
    }
    this.series.forEach((series, i) => this.drawn.setSeries(i + 1, { show: !this.hidden.has(series.name) }));
    for (const row of this.legend.querySelectorAll("button[data-series]")) {
      row.setAttribute("aria-pressed", String(!this.hidden.has(this.series[row.dataset.series].name)));
    }
  }

  #resize() {
    if (this.drawn && this.plot.clientWidth > 0) {
      this.drawn.setSize({ width: this.plot.clientWidth, height: HEIGHT });
    }
  }
}

function legendHead(count, common, only) {
  const shared = seriesName(common);
  return `${count} series${shared === "{}" ? "" : ` of ${shared}`}${only ? ` by ${visible(only)}` : ""}`;
}

function legendName(rest, whole) {
  const name = seriesName(rest);
  return name === "{}" ? (whole === "{}" ? "value" : whole) : name;
}

const STATISTICS = ["min", "avg", "max"];

// Of the points that are drawn; null where there are none.
function statistics(values) {
  let [min, max, sum, count] = [Infinity, -Infinity, 0, 0];
  for (const value of values) {
    if (value === null) continue;
    min = Math.min(min, value);
    max = Math.max(max, value);
    sum += value;
    count++;
  }
  if (!count) return { min: null, avg: null, max: null };
  if (Number.isFinite(sum)) return { min, avg: sum / count, max };
  return { min, avg: values.reduce((part, value) => part + (value ?? 0) / count, 0), max };
}

// Pixels for the longest mark of an axis.
function widthOf(u, marks, axis) {
  const longest = Math.max(0, ...(marks ?? []).map((mark) => String(mark).length));
  return Math.max(48, 18 + 7 * longest);
}

const DASHES = [undefined, [7, 3], [2, 3]];

function column(samples, times, points) {
  const values = new Array(points).fill(null);
  for (const [at, text] of samples) {
    const value = number(text);
    // A line has no place for NaN and the infinities: they are gaps, as the table shows them.
    if (Number.isFinite(value)) values[Math.round((at - times.start) / times.step)] = value;
  }
  return values;
}

// The last value, NaN and the infinities included.
function lastOf(samples) {
  return samples?.length ? number(samples.at(-1)[1]) : null;
}

function number(text) {
  return Number(text.replace("Inf", "Infinity"));
}

// Points with a gap on both sides, which no line would show.
function alone(u, index, show) {
  if (show) return null;
  const values = u.data[index];
  const found = [];
  for (let i = 0; i < values.length; i++) {
    if (values[i] !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null) found.push(i);
  }
  return found;
}

// A flat line stands in the middle; values that start near zero start at zero.
function bounds(low, high) {
  if (low === null || !Number.isFinite(low)) return [0, 1];
  if (low === high) {
    const margin = Math.abs(low) / 10;
    return margin > TINY ? finite(low - margin, high + margin) : [-1, 1];
  }
  // Halved before, as the distance of great values may be beyond all numbers.
  const margin = (high / 2 - low / 2) * 0.12;
  return finite(low >= 0 && low < (high - low) * 0.5 ? 0 : low - margin, high + margin);
}

// Below this, a tenth of a number may be no number of its own.
const TINY = 1e-300;

// A range and its length are numbers: the ends of one that is too long are cut off.
function finite(low, high) {
  const clamp = (value, most) => Math.min(Math.max(value, -most), most);
  const ends = [low, high].map((value) => clamp(value, Number.MAX_VALUE));
  return Number.isFinite(ends[1] - ends[0]) ? ends : ends.map((value) => clamp(value, Number.MAX_VALUE / 2));
}

// The least of 1, 2, 2.5 and 5 times a power of ten that leaves `space` pixels between marks. uPlot's own
// ends at 1e16.
function markDistance(low, high, pixels, space) {
  const least = ((high - low) / pixels) * space;
  const power = 10 ** Math.floor(Math.log10(least));
  const distance = power * ([1, 2, 2.5, 5].find((factor) => factor * power >= least) ?? 10);
  return Number.isFinite(distance) && distance > 0 ? distance : high - low;
}

function marksBetween(low, high, apart) {
  const marks = [];
  for (let k = Math.ceil(low / apart); k * apart <= high && marks.length < 100; k++) {
    marks.push(Number((k * apart).toPrecision(12)));
  }
  return marks;
}

function colour(i) {
  return css(`--series-${i % COLOURS}`);
}

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}
