"""The pages behind links in messages: what is to be acknowledged, and that it was."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from starlette.responses import HTMLResponse

from varve.notify.groups import Entry
from varve.notify.oncall.signed_links import Acknowledging

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="same-origin">
<title>{title} · Varve</title>
<style>
  :root {{ color-scheme: light dark; }}
  body {{ font: 16px/1.5 system-ui, sans-serif; margin: auto; max-width: 640px; padding: 24px; }}
  h1 {{ font-size: 20px; }} li {{ margin: 8px 0; overflow-wrap: anywhere; }}
  .labels {{ opacity: .75; font-size: 14px; }} button {{ font: inherit; padding: 8px 16px; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
<p><a href="./">All alerts</a></p>
</body>
</html>
"""


def asking(said: Acknowledging, entries: list[Entry]) -> HTMLResponse:
    """Asks whoever followed a link to confirm it. The form goes to the address of the page."""
    if not entries:
        return _page("Nothing to acknowledge", "<p>What the message told of has ended.</p>")
    body = (
        f"{_list(entries)}<p>Nobody further is told until it fires anew.</p>"
        f'<form method="post"><button>Acknowledge as {escape(said.by)}</button></form>'
    )
    return _page(f"Acknowledge {_count(entries)}?", body)


def done(said: Acknowledging, entries: list[Entry]) -> HTMLResponse:
    if not entries:
        return asking(said, entries)
    body = f"<p>{escape(said.by)} takes care of it.</p>{_list(entries)}"
    return _page(f"{_count(entries)} acknowledged", body)


def refused(why: str, status: int) -> HTMLResponse:
    return _page("This link cannot be used", f"<p>{escape(why)}.</p>", status)


def _count(entries: list[Entry]) -> str:
    return f"{len(entries)} alert{'s' if len(entries) > 1 else ''}"


def _list(entries: Iterable[Entry]) -> str:
    return f"<ul>{''.join(map(_item, entries))}</ul>"


def _item(entry: Entry) -> str:
    labels, notes = entry.labels, entry.alert.annotations
    title = notes.get("summary") or labels.get("alertname") or "alert"
    shown = ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))
    return f'<li>{escape(title)}<div class="labels">{escape(shown)}</div></li>'


def _page(title: str, body: str, status: int = 200) -> HTMLResponse:
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"}
    return HTMLResponse(_PAGE.format(title=escape(title), body=body), status, headers)
