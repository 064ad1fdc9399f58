// The list of metrics: those seen in the time that is shown, with what their producers say of them.

import { metrics } from "./client.js";

const MOST = 200; // rows; more are found by typing
const PLAIN = /^[A-Za-z_:][A-Za-z0-9_:]*$/;

export class Explorer {
  // span: {start, end} of the time that is shown. choose: called with an expression.
  constructor(dialog, span, choose) {
    this.dialog = dialog;
    this.span = span;
    this.choose = choose;
    this.filter = dialog.querySelector("input");
    this.list = dialog.querySelector("ul");
    this.count = dialog.querySelector("p");
    this.found = [];
    this.filter.oninput = () => this.show();
    this.filter.onkeydown = (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      this.list.querySelector("button")?.click();
    };
    dialog.onclick = (event) => event.target === dialog && dialog.close(); // beside it
  }

  async open() {
    this.filter.value = "";
    this.found = [];
    this.list.replaceChildren();
    this.count.textContent = "…";
    this.dialog.showModal();
    this.found = await metrics(this.span());
    this.show();
  }

  show() {
    const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = this.found.filter(({ name, help }) => {
      const text = `${name} ${help}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
    this.list.replaceChildren(...fits.slice(0, MOST).map((metric) => this.row(metric)));
    const more = fits.length > MOST ? `, of which the first ${MOST} are shown` : "";
    this.count.textContent = `${fits.length.toLocaleString()} of ${this.found.length.toLocaleString()} metrics${more}`;
  }

  row(metric) {
    const button = document.createElement("button");
    button.type = "button";
    const parts = [["b", metric.name], ["i", [metric.type, metric.unit].filter(Boolean).join(", ")], ["span", metric.help]];
    for (const [tag, text] of parts) {
      const part = document.createElement(tag);
      part.textContent = text;
      button.append(part);
    }
    button.onclick = () => {
      this.dialog.close();
      this.choose(expressionOf(metric));
    };
    const item = document.createElement("li");
    item.append(button);
    return item;
  }
}

// What somebody most likely wants to see of a metric first.
export function expressionOf({ name, type }) {
  const selector = PLAIN.test(name) ? name : `{${JSON.stringify(name)}}`;
  if (name.endsWith("_bucket")) return `histogram_quantile(0.95, sum by (le) (rate(${selector}[5m])))`;
  return type === "counter" || /_(total|count|sum)$/.test(name) ? `rate(${selector}[5m])` : selector;
}
