// What the pages share: their frame, and small parts of them.

import { QueryFailure } from "./client.js";
import { timeZone } from "./format.js";

export const $ = (id) => document.getElementById(id);

// onTheme: called once the colours have changed.
export function setUpFrame(onTheme) {
  $("zone").textContent = timeZone();
  $("theme").onclick = () => {
    switchTheme();
    onTheme();
  };
}

export function switchTheme() {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("varve-theme", root.dataset.theme);
}

// A button for each value.
export function fillChoice(place, values, choose) {
  for (const value of values) {
    const button = element("button", { type: "button", text: value, "data-value": value });
    button.onclick = () => choose(value);
    place.append(button);
  }
}

export function showChosen(place, value) {
  for (const button of place.children) button.setAttribute("aria-pressed", String(button.dataset.value === value));
}

// Does some work and shows why it failed, if it does; whether it was done.
export async function attempt(work) {
  try {
    await work();
    $("error").hidden = true;
    return true;
  } catch (error) {
    if (!(error instanceof QueryFailure)) throw error;
    $("error").textContent = error.message;
    $("error").hidden = false;
    return false;
  }
}

export function element(tag, { text = "", className = "", ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// pairs: [what it is, its value].
export function fillFacts(place, pairs) {
  place.replaceChildren(
    ...pairs.map(([name, value]) => element("div", {}, element("dt", { text: name }), element("dd", { text: value }))),
  );
}

// columns: [{name, kind: "text" or "value", cell(row): text or element}]. chosen: the key of a row; onChoose(key).
export function fillTable(place, columns, rows, keyOf, chosen, onChoose) {
  const head = element("tr", {}, ...columns.map(({ name, kind }) => element("th", { className: `text ${kind}`, text: name })));
  const body = rows.map((row) => {
    const key = keyOf(row);
    const cells = columns.map(({ kind, cell }) => {
      const said = cell(row);
      return element("td", { className: kind }, said);
    });
    const line = element("tr", { "data-key": key, "aria-selected": String(key === chosen), tabindex: "0" }, ...cells);
    line.onclick = () => onChoose(key);
    line.onkeydown = (event) => {
      if (event.key === "Enter") onChoose(key);
    };
    return line;
  });
  place.replaceChildren(element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)));
}

export function tag(kind, text = kind) {
  return element("span", { className: "tag", "data-kind": kind, text });
}

export function days(count) {
  if (count === null) return "over 7 days";
  if (count <= 0) return "now";
  if (count < 1) return `${Math.max(1, Math.round(count * 24))} h`;
  return `${count.toFixed(1)} days`;
}

export function length(milliseconds) {
  const minutes = Math.round(milliseconds / 60000);
  if (minutes < 120) return `${minutes} min`;
  if (minutes < 2880) return `${(minutes / 60).toFixed(1)} h`;
  return `${(minutes / 1440).toFixed(1)} days`;
}
