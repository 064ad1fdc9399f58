// The expression: grows with its text, marks where an error is, completes names of metrics, functions
// and keywords.

import { characterSpan } from "./client.js";
import { FUNCTIONS, KEYWORDS } from "./functions.js";

const MOST_HINTS = 12;
const WORDS = [...FUNCTIONS.map((f) => f.name), ...KEYWORDS];
const HELP = new Map(FUNCTIONS.map((f) => [f.name, `${f.usage}\n${f.help}`]));

export class Editor {
  // loadNames(): promise of metric names, asked for once something is typed. onRun(): Ctrl+Enter.
  constructor(area, marks, hints, loadNames, onRun) {
    Object.assign(this, { area, marks, hints, loadNames, onRun });
    this.names = WORDS;
    this.chosen = 0;
    area.addEventListener("input", () => this.#typed());
    area.addEventListener("keydown", (event) => this.#key(event));
    area.addEventListener("blur", () => this.#close());
    area.addEventListener("scroll", () => (marks.scrollTop = area.scrollTop));
  }

  get text() {
    return this.area.value;
  }

  set text(value) {
    this.area.value = value;
    this.unmark();
    this.#grow();
  }

  // position: {start, end} in UTF-8 bytes.
  mark(position) {
    const { start, end } = characterSpan(this.text, position);
    const wrong = document.createElement("mark");
    wrong.textContent = this.text.slice(start, end) || " ";
    this.marks.replaceChildren(this.text.slice(0, start), wrong, this.text.slice(end));
  }

  unmark() {
    this.marks.replaceChildren();
  }

  async #typed() {
    this.unmark();
    this.#grow();
    this.#suggest();
    if (this.names === WORDS) {
      this.names = [...WORDS];
      this.names.push(...(await this.loadNames()));
      this.#suggest();
    }
  }

  #grow() {
    this.area.style.height = "auto";
    this.area.style.height = `${this.area.scrollHeight}px`;
  }

  #word() {
    const before = this.text.slice(0, this.area.selectionStart);
    if (/[{,][^}]*$/.test(before) && /"[^"]*$/.test(before)) return ""; // inside a label's value
    return /[a-zA-Z_:][a-zA-Z0-9_:]*$/.exec(before)?.[0] ?? "";
  }

  #suggest() {
    const word = this.#word().toLowerCase();
    const found = word.length < 2 ? [] : this.names.filter((name) => name.toLowerCase().includes(word));
    const exact = found.length === 1 && found[0] === word;
    found.sort((a, b) => b.toLowerCase().startsWith(word) - a.toLowerCase().startsWith(word) || a.localeCompare(b));
    this.chosen = 0;
    this.hints.replaceChildren(
      ...(exact ? [] : found.slice(0, MOST_HINTS)).map((name, i) => {
        const hint = document.createElement("li");
        hint.role = "option";
        hint.textContent = name;
        hint.title = HELP.get(name) ?? "";
        hint.ariaSelected = String(i === 0);
        hint.onmousedown = (event) => {
          event.preventDefault();
          this.#accept(name);
        };
        return hint;
      }),
    );
    this.hints.hidden = this.hints.childElementCount === 0;
  }

  #key(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.#close();
      this.onRun();
    } else if (this.hints.hidden) {
      return;
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      this.#choose(this.chosen + (event.key === "ArrowDown" ? 1 : -1));
    } else if (event.key === "Tab" || event.key === "Enter") {
      event.preventDefault();
      this.#accept(this.hints.children[this.chosen].textContent);
    } else if (event.key === "Escape") {
      this.#close();
    }
  }

  #choose(index) {
    const options = [...this.hints.children];
    this.chosen = (index + options.length) % options.length;
    options.forEach((option, i) => (option.ariaSelected = String(i === this.chosen)));
    options[this.chosen].scrollIntoView({ block: "nearest" });
  }

  #accept(name) {
    const start = this.area.selectionStart - this.#word().length;
    this.area.setRangeText(name, start, this.area.selectionStart, "end");
    this.#close();
    this.#grow();
  }

  #close() {
    this.hints.hidden = true;
  }
}
