// What the stored bytes are spent on, and what less of something would save: `varve usage`, as a dialog.

import { storageUsage } from "./client.js";

export class StorageUsage {
  constructor(dialog) {
    this.dialog = dialog;
    this.said = dialog.querySelector("p");
    this.place = dialog.querySelector("div");
    dialog.onclick = (event) => event.target === dialog && dialog.close(); // beside it
  }

  async open() {
    this.said.textContent = "Adding up…";
    this.place.replaceChildren();
    this.dialog.showModal();
    try {
      this.show(await storageUsage());
    } catch (error) {
      this.said.textContent = error.message;
    }
  }

  show(usage) {
    const money = (cost) => `${cost.toFixed(cost < 1 ? 4 : 2)} ${usage.currency}`;
    const whole = (number) => number.toLocaleString();
    this.said.textContent =
      `${bytes(usage.bytes)}, ${money(usage.cost)} a month; ${whole(usage.samples)} raw samples, ` +
      `${whole(usage.series)} series ever registered. Bytes of metrics and labels are shared out by rows.`;
    const lists = [
      [["Table", "root", "files", "rows", "bytes a row", "size", "a month"], usage.tables, (use) => [
        use.table, use.root, whole(use.files), whole(use.rows), use.rows ? (use.bytes / use.rows).toFixed(2) : "",
        bytes(use.bytes), money(use.cost),
      ]],
      [["Metric", "series", "samples", "size", "a month"], usage.metrics, (use) => [
        use.metric, whole(use.series), whole(use.samples), bytes(use.bytes), money(use.cost),
      ]],
      [["Label", "values", "series", "series without it", "size", "a month"], usage.labels, (use) => [
        use.label, whole(use.values), whole(use.series), whole(use.series_without), bytes(use.bytes), money(use.cost),
      ]],
      [["What would save", "size", "a month"], usage.savings, (saving) => [
        saving.what, bytes(saving.bytes), money(saving.cost),
      ]],
    ];
    const there = lists.filter(([, rows]) => rows.length);
    this.place.replaceChildren(...there.map(([head, rows, cells]) => table(head, rows.map(cells))));
  }
}

function bytes(size) {
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (size < 1000) return `${size.toFixed(unit === "B" ? 0 : 1)} ${unit}`;
    size /= 1000;
  }
  return `${size.toFixed(1)} TB`;
}

function table(head, rows) {
  const made = document.createElement("table");
  const first = made.createTHead().insertRow();
  for (const text of head) {
    const cell = document.createElement("th");
    cell.textContent = text;
    first.append(cell);
  }
  const body = made.createTBody();
  for (const cells of rows) {
    const row = body.insertRow();
    for (const text of cells) row.insertCell().textContent = text;
  }
  return made;
}
