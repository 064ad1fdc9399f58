"""What `varve query` prints: a line a series, a plot, an error that points at its place."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from typing import Any

from varve.cli.plot import plot, swatch
from varve.cli.query_sources import Question
from varve.cli.terminal import printable

_WIDEST_NAME = 120
_HEIGHT = 16
_LEGEND_ROWS = 20


def print_answer(answer: Mapping[str, Any], question: Question) -> None:
    """Prints a successful answer, its notes on stderr."""
    data = answer["data"]
    notes = [*answer.get("warnings", ()), *answer.get("infos", ())]
    if data["resultType"] in ("scalar", "string"):
        print(printable(data["result"][1], keep="\n\t"))
    elif not data["result"]:
        notes = notes or [f"no series {'in that range' if question.step_ms else 'at that time'}"]
    elif question.step_ms:
        _print_plot(data["result"], question)
    else:
        _print_table(data["result"])
    for note in notes:
        print(printable(note), file=sys.stderr)


def error_text(answer: Mapping[str, Any], expression: str) -> str:
    """The error, and a line that points at its place where the answer says where that is."""
    text = printable(str(answer["error"]).removeprefix('invalid parameter "query": '), keep="\n")
    position = answer.get("position")
    if position is None or not expression.strip() or printable(expression) != expression:
        return text
    raw = expression.encode("utf-8", "surrogateescape")
    before = len(raw[: position["start"]].decode(errors="replace"))
    length = len(raw[position["start"] : position["end"]].decode(errors="replace"))
    return f"{text}\n  {expression}\n  {' ' * before}{'^' * max(1, length)}"


def _print_table(result: list[dict[str, Any]]) -> None:
    rows = [(_name(series), _values(series)) for series in result]
    # One name as long as a page must not push all values out of sight.
    width = min(max(len(name) for name, _ in rows), _WIDEST_NAME)
    for name, values in rows:
        print(f"{name:<{width}}  {values[0]}")
        for value in values[1:]:
            print(f"{'':<{width}}  {value}")


def _values(series: Mapping[str, Any]) -> list[str]:
    if "value" in series:
        return [str(series["value"][1])]
    if "values" in series:
        return [f"{value} @{at}" for at, value in series["values"]]
    return ["(native histogram: see --json)"]


def _print_plot(result: list[dict[str, Any]], question: Question) -> None:
    colour = sys.stdout.isatty()
    lines = [[(at, float(value)) for at, value in s.get("values", ())] for s in result]
    width = shutil.get_terminal_size((100, 24)).columns
    start, end, gap = question.start_ms / 1000, question.end_ms / 1000, question.step_ms * 1.5e-3
    print("\n".join(plot(lines, start, end, gap, width, _HEIGHT, colour=colour)))
    for i, series in enumerate(result[:_LEGEND_ROWS]):
        last = series["values"][-1][1] if series.get("values") else "(native histograms)"
        print(f"{swatch(i, colour=colour)} {_name(series)}  {last}")
    if len(result) > _LEGEND_ROWS:
        print(f"   and {len(result) - _LEGEND_ROWS} more series")


def _name(series: Mapping[str, Any]) -> str:
    labels = dict(series["metric"])
    name = labels.pop("__name__", "")
    inside = ", ".join(f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in labels.items())
    return printable(f"{name}{{{inside}}}" if inside or not name else name)
