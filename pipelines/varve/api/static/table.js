// The answer of an instant query as a table: a column a label, the value last.

import { clock, visible } from "./format.js";

const MOST_ROWS = 1000;
const MOST_SAMPLES = 20;

export class ResultTable {
  constructor(place) {
    this.place = place;
    this.sort = null; // {column, descending}
  }

  // result: data of an instant query's answer.
  show({ resultType, result }) {
    this.isText = resultType === "string";
    if (resultType === "scalar" || resultType === "string") {
      this.columns = [];
      this.rows = [{ labels: {}, value: result[1] }];
    } else {
      const names = new Set(result.flatMap((series) => Object.keys(series.metric)));
      this.columns = [...names].sort((a, b) => (b === "__name__") - (a === "__name__") || a.localeCompare(b));
      this.rows = result.map((series) => ({ labels: series.metric, value: text(series) }));
    }
    this.#write();
  }

  clear() {
    this.place.replaceChildren();
  }

  #write() {
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const name of [...this.columns, "value"]) {
      const cell = document.createElement("th");
      const button = document.createElement("button");
      button.type = "button";
      const sorted = this.sort?.column === name;
      button.textContent = (name === "__name__" ? "metric" : visible(name)) + (sorted ? (this.sort.descending ? " ↓" : " ↑") : "");
      cell.ariaSort = sorted ? (this.sort.descending ? "descending" : "ascending") : "none";
      button.onclick = () => {
        this.sort = { column: name, descending: sorted ? !this.sort.descending : name === "value" };
        this.#write();
      };
      cell.classList.toggle("value", name === "value");
      cell.append(button);
      head.append(cell);
    }
    const body = table.createTBody();
    for (const row of this.#sorted().slice(0, MOST_ROWS)) {
      const line = body.insertRow();
      for (const name of this.columns) line.insertCell().textContent = visible(row.labels[name] ?? "");
      const cell = line.insertCell();
      cell.textContent = row.value;
      cell.className = this.isText ? "value text" : "value";
    }
    this.place.replaceChildren(table);
    if (this.rows.length > MOST_ROWS) {
      const note = document.createElement("p");
      note.textContent = `The first ${MOST_ROWS} of ${this.rows.length} rows.`;
      this.place.append(note);
    }
  }

  #sorted() {
    if (!this.sort) return this.rows;
    const { column, descending } = this.sort;
    const key = (row) => (column === "value" ? row.value : (row.labels[column] ?? ""));
    const ordered = [...this.rows].sort((a, b) => compare(key(a), key(b)));
    return descending ? ordered.reverse() : ordered;
  }
}

function text(series) {
  if (series.value) return series.value[1];
  if (!series.values) return "a native histogram";
  const shown = series.values.slice(-MOST_SAMPLES).map(([at, value]) => `${value} @ ${clock(at, true)}`);
  const left = series.values.length - shown.length;
  return (left > 0 ? `… ${left} earlier\n` : "") + shown.join("\n");
}

function compare(a, b) {
  const left = Number(a);
  const right = Number(b);
  if (Number.isNaN(left) || Number.isNaN(right)) return a.localeCompare(b, undefined, { numeric: true });
  return left - right;
}
