"""A backtest for a person or a program: text, JSON, a page with a plot."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from varve.model.clock import utc_text
from varve.rules.api_json import rfc3339
from varve.rules.backtest.backtest import Backtest, Episode, RuleRecord
from varve.rules.backtest.told import Told
from varve.rules.instant import number_text
from varve.rules.label_sets import ALERT_NAME, Labels

_WIDTH: Final = 60
_MOST_ROWS: Final = 200
"""Label sets that a plot shows; the others are counted."""
_QUIET, _PENDING, _FIRING = "·", "░", "█"


@dataclass(frozen=True, slots=True)
class Report:
    """What was run, and what it gave. against: the same with the other rules. told: None if no
    notifications were asked for.
    """

    files: tuple[str, ...]
    snapshot: str
    complete_until_ms: int | None
    run: Backtest
    told: Sequence[Told] | None = None
    against_files: tuple[str, ...] = ()
    against: Backtest | None = None

    # JSON

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "files": list(self.files),
            "from": rfc3339(self.run.start_ms),
            "to": rfc3339(self.run.end_ms),
            "snapshot": self.snapshot,
            "complete_until": self.complete_until_ms,
            "rules": [_rule_json(record, self.run.end_ms) for record in self.run.rules],
        }
        if self.told is not None:
            found["notifications"] = [_told_json(one) for one in self.told]
        if self.against is not None:
            here, there = _fired(self.run), _fired(self.against)
            found["against"] = {
                "files": list(self.against_files),
                "rules": [_rule_json(record, self.against.end_ms) for record in self.against.rules],
                "only_here": [_firing_json(one) for one in here if one not in there],
                "only_there": [_firing_json(one) for one in there if one not in here],
            }
        return found

    # Text

    def to_text(self) -> str:
        run = self.run
        lines = [
            f"{', '.join(self.files)} from {utc_text(run.start_ms)} to {utc_text(run.end_ms)}",
            f"snapshot {self.snapshot}",
        ]
        if self.complete_until_ms is not None and self.complete_until_ms < run.end_ms:
            lines.append(f"data is complete until {utc_text(self.complete_until_ms)} only")
        for record in run.rules:
            lines += ["", *_rule_text(record, run)]
        if self.told is not None:
            lines += ["", f"{len(self.told)} messages"]
            lines += [f"  {_told_text(one)}" for one in self.told]
        if self.against is not None:
            here, there = _fired(run), _fired(self.against)
            only = [("+", one) for one in here if one not in there]
            only += [("-", one) for one in there if one not in here]
            lines += ["", f"against {', '.join(self.against_files)}: {len(only)} firings differ"]
            lines += [
                f"  {sign} {utc_text(fired_ms)} to {_end_text(ended_ms)}  {_labels_text(labels)}"
                for sign, (fired_ms, ended_ms, labels) in sorted(
                    only, key=lambda one: (one[1][0], one[1][2], one[0])
                )
            ]
        return "\n".join(lines) + "\n"

    # A page

    def to_html(self) -> str:
        run = self.run
        title = html.escape(f"Backtest of {', '.join(self.files)}")
        span = html.escape(f"{utc_text(run.start_ms)} to {utc_text(run.end_ms)}")
        parts = [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{title}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{title}</h1><p>{span}; snapshot <code>{html.escape(self.snapshot)}</code></p>",
            "<h2>Alerts</h2>",
            _plot(run, self.told or ()),
            _KEY,
            "<h2>Rules</h2>",
            _rules_table(run),
        ]
        if self.told is not None:
            parts += ["<h2>Messages</h2>", _told_table(self.told)]
        if self.against is not None:
            parts.append(f"<h2>Against {html.escape(', '.join(self.against_files))}</h2>")
            parts.append(_against_table(_fired(run), _fired(self.against)))
        return "\n".join([*parts, "</body></html>"]) + "\n"


Firing = tuple[int, int | None, Labels]
"""When an alert fired and ended, and its labels."""


def _fired(run: Backtest) -> list[Firing]:
    return sorted(
        ((e.fired_ms or 0, e.ended_ms, e.labels) for record in run.rules for e in record.fired),
        key=lambda one: (one[0], one[2]),
    )


def _rule_json(record: RuleRecord, until_ms: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "group": record.group,
        "name": record.name,
        "type": "alerting" if record.is_alert else "recording",
        "evaluations": record.evaluations,
        "failures": record.failures,
    }
    if record.error:
        found["lastError"] = record.error
    if not record.is_alert:
        return found | {"samples": record.samples}
    return found | {
        "fired": len(record.fired),
        "flapped": record.flapped,
        "firing_s": record.firing_ms(until_ms) / 1000,
        "episodes": [_episode_json(episode) for episode in record.episodes],
    }


def _episode_json(episode: Episode) -> dict[str, Any]:
    return {
        "labels": dict(episode.labels),
        "annotations": dict(episode.annotations),
        "value": number_text(episode.value),
        "pending": rfc3339(episode.pending_ms),
        "fired": None if episode.fired_ms is None else rfc3339(episode.fired_ms),
        "ended": None if episode.ended_ms is None else rfc3339(episode.ended_ms),
    }


def _firing_json(one: Firing) -> dict[str, Any]:
    fired_ms, ended_ms, labels = one
    ended = None if ended_ms is None else rfc3339(ended_ms)
    return {"labels": dict(labels), "fired": rfc3339(fired_ms), "ended": ended}


def _told_json(one: Told) -> dict[str, Any]:
    return {
        "at": rfc3339(one.at_ms),
        "receiver": one.receiver,
        "integration": one.integration,
        "status": one.status,
        "group": dict(one.group),
        "alerts": [
            {"labels": dict(labels), "status": "firing" if fires else "resolved"}
            for labels, fires in one.alerts
        ],
    }


def _rule_text(record: RuleRecord, run: Backtest) -> Iterable[str]:
    failed = f", {record.failures} failed: {record.error}" if record.failures else ""
    if not record.is_alert:
        yield f"{record.name}: {record.samples} samples of {record.evaluations} times{failed}"
        return
    firing_s = record.firing_ms(run.end_ms) / 1000
    yield (
        f"{record.name}: fired {len(record.fired)}, flapped {record.flapped}, pending only"
        f" {len(record.episodes) - len(record.fired)}; firing for {firing_s:.0f} s{failed}"
    )
    rows = list(_by_labels(record.episodes).items())
    for labels, episodes in rows[:_MOST_ROWS]:
        yield f"  {_bar(episodes, run)} {_labels_text(labels, without_name=True)}"
    if len(rows) > _MOST_ROWS:
        yield f"  and {len(rows) - _MOST_ROWS} more label sets"


def _by_labels(episodes: Iterable[Episode]) -> dict[Labels, list[Episode]]:
    found: dict[Labels, list[Episode]] = {}
    for episode in episodes:
        found.setdefault(episode.labels, []).append(episode)
    return dict(sorted(found.items()))


def _bar(episodes: Iterable[Episode], run: Backtest) -> str:
    """A line of characters from the start to the end; of several states in one the worst shows."""
    span_ms = max(1, run.end_ms - run.start_ms)

    def place(at_ms: int) -> int:
        return min(_WIDTH - 1, (at_ms - run.start_ms) * _WIDTH // span_ms)

    cells = [_QUIET] * _WIDTH
    for episode in episodes:
        end_ms = episode.ended_ms or run.end_ms
        for cell in range(place(episode.pending_ms), place(end_ms) + 1):
            cells[cell] = max(cells[cell], _PENDING, key=_ORDER.index)
        if episode.fired_ms is not None:
            for cell in range(place(episode.fired_ms), place(end_ms) + 1):
                cells[cell] = _FIRING
    return "".join(cells)


_ORDER: Final = (_QUIET, _PENDING, _FIRING)


def _told_text(one: Told) -> str:
    counts = Counter("firing" if fires else "resolved" for _, fires in one.alerts)
    alerts = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return (
        f"{utc_text(one.at_ms)}  {one.receiver} by {one.integration}"
        f"  {_labels_text(one.group)}: {alerts}"
    )


def _labels_text(labels: Labels, *, without_name: bool = False) -> str:
    shown = dict(labels)
    name = shown.pop(ALERT_NAME, "") if not without_name else shown.pop(ALERT_NAME, "") and ""
    return name + "{" + ", ".join(f"{k}={v}" for k, v in shown.items()) + "}"


def _end_text(at_ms: int | None) -> str:
    return "the end" if at_ms is None else utc_text(at_ms)


_STYLE: Final = """
body{font:14px/1.4 system-ui,sans-serif;margin:2em auto;max-width:1100px;padding:0 1em;
color:#1d2530;background:#fff}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25em .6em;
border-bottom:1px solid #dde3ea;vertical-align:top}td.n{text-align:right}
td:first-child{white-space:nowrap}td:last-child{min-width:9em}.wide{overflow-x:auto}code{overflow-wrap:anywhere}
svg{width:100%;height:auto}svg text{font-size:11px;fill:#1d2530}
.pending{fill:#f0c36d;background:#f0c36d}.firing{fill:#c4314b;background:#c4314b}
.told{fill:#2458a8;background:#2458a8}.axis{stroke:#dde3ea}
i{display:inline-block;width:1em;height:.7em;margin:0 .2em 0 1em}
@media(prefers-color-scheme:dark){body{background:#14181d;color:#dfe6ee}
svg text{fill:#dfe6ee}th,td{border-color:#2c343d}.axis{stroke:#2c343d}}
"""
_KEY: Final = (
    '<p class="key"><i class="pending"></i> pending <i class="firing"></i> firing'
    ' <i class="told"></i> a message</p>'
)
_LEFT, _PLOT, _ROW = 300, 760, 18
_HOURS_MS: Final = 12 * 3_600_000


def _plot(run: Backtest, told: Sequence[Told]) -> str:
    """Alerts over time, a row each label set."""
    rows = [
        (labels, episodes)
        for record in run.rules
        for labels, episodes in _by_labels(record.episodes).items()
    ]
    if not rows:
        return "<p>No alert was pending or fired.</p>"
    shown = rows[:_MOST_ROWS]
    span_ms = max(1, run.end_ms - run.start_ms)

    def x(at_ms: int) -> float:
        clipped_ms = min(max(at_ms, run.start_ms), run.end_ms)
        return round(_LEFT + (clipped_ms - run.start_ms) * _PLOT / span_ms, 2)

    # Of a few hours the seconds are shown, of more the day.
    shown_time = slice(11, 19) if span_ms < _HOURS_MS else slice(5, 16)
    height = _ROW * (len(shown) + 2)
    parts = [f'<svg viewBox="0 0 {_LEFT + _PLOT + 10} {height}" role="img">']
    for share in range(5):
        at_ms = run.start_ms + span_ms * share // 4
        anchor = "end" if share == 4 else "middle" if share else "start"
        parts.append(f'<line class="axis" x1="{x(at_ms)}" x2="{x(at_ms)}" y1="14" y2="{height}"/>')
        parts.append(
            f'<text x="{x(at_ms)}" y="11" text-anchor="{anchor}">'
            f"{utc_text(at_ms)[shown_time]}</text>"
        )
    for row, (labels, episodes) in enumerate(shown):
        top = _ROW * (row + 1)
        text = html.escape(_shortened(_labels_text(labels), 46))
        full = html.escape(_labels_text(labels))
        parts.append(f'<text x="0" y="{top + 13}"><title>{full}</title>{text}</text>')
        for episode in episodes:
            end_ms = episode.ended_ms or run.end_ms
            begin_ms = episode.pending_ms
            spans = [("pending", begin_ms, episode.fired_ms or end_ms)]
            if episode.fired_ms is not None:
                spans.append(("firing", episode.fired_ms, end_ms))
            for kind, from_ms, to_ms in spans:
                wide = max(1.0, x(to_ms) - x(from_ms)) if to_ms > from_ms else 0
                if wide:
                    parts.append(
                        f'<rect class="{kind}" x="{x(from_ms)}" y="{top + 3}" width="{wide:.2f}"'
                        f' height="{_ROW - 6}"/>'
                    )
        parts += [
            f'<circle class="told" cx="{x(one.at_ms)}" cy="{top + _ROW // 2}" r="3"/>'
            for one in told
            if any(told_labels == labels for told_labels, _ in one.alerts)
        ]
    parts.append("</svg>")
    if len(rows) > _MOST_ROWS:
        parts.append(f"<p>and {len(rows) - _MOST_ROWS} more label sets</p>")
    return "".join(parts)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _rules_table(run: Backtest) -> str:
    head = ("rule", "group", "fired", "flapped", "pending only", "firing, s", "samples", "failed")
    rows = []
    for record in run.rules:
        alerting = [
            len(record.fired),
            record.flapped,
            len(record.episodes) - len(record.fired),
            round(record.firing_ms(run.end_ms) / 1000),
            "",
        ]
        figures = alerting if record.is_alert else ["", "", "", "", record.samples]
        failed = f"{record.failures}: {record.error}" if record.failures else ""
        rows.append([record.name, record.group, *figures, failed])
    return _table(head, rows)


def _told_table(told: Sequence[Told]) -> str:
    head = ("time", "receiver", "integration", "group", "alerts")
    return _table(
        head,
        [
            [
                utc_text(one.at_ms),
                one.receiver,
                one.integration,
                _labels_text(one.group),
                "; ".join(
                    f"{_labels_text(labels)} {'fires' if fires else 'is over'}"
                    for labels, fires in one.alerts
                ),
            ]
            for one in told
        ],
    )


def _against_table(here: Sequence[Firing], there: Sequence[Firing]) -> str:
    both = sorted({*here, *there}, key=lambda one: (one[0], one[2], one[1] or 0))
    rows = [
        [utc_text(one[0]), _end_text(one[1]), _labels_text(one[2]), "here" if one in here else ""]
        for one in both
        if (one in here) != (one in there)
    ]
    if not rows:
        return "<p>The same alerts fired at the same times.</p>"
    return _table(("fired", "until", "alert", "only here"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    def cell(value: object) -> str:
        kind = ' class="n"' if isinstance(value, int) else ""
        return f"<td{kind}>{html.escape(str(value))}</td>"

    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    names = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    return f'<div class="wide"><table><tr>{names}</tr>{body}</table></div>'
