"""Where the notifier of `varve up` tells alerts if nobody else is named: its log and terminal."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from varve.model.resources import conf_dir

_PLACEHOLDER = "http://127.0.0.1:9697/"
_MOST_BYTES = 4 << 20

log = logging.getLogger(__name__)


@contextmanager
def alert_log(say: Callable[[str], None]) -> Iterator[str]:
    """Takes Alertmanager's webhooks on a free port until the block ends; gives the address. Each
    alert of a message is a line.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = min(int(self.headers.get("content-length") or 0), _MOST_BYTES)
            try:
                lines = list(lines_of(json.loads(self.rfile.read(size))))
            except (ValueError, TypeError, AttributeError, KeyError) as err:
                self.send_error(400, f"no webhook of Alertmanager: {err}")
                return
            for line in lines:
                say(line)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Says nothing of requests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, name="alert log", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def lines_of(message: dict[str, Any]) -> Iterator[str]:
    """What a message says, a line an alert."""
    for alert in message["alerts"]:
        labels = dict(alert["labels"])
        name = labels.pop("alertname", "?")
        rest = ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
        told = alert.get("annotations", {}).get("summary", "")
        what = "alert fires" if alert["status"] == "firing" else "alert is over"
        yield f"{what}: {name} {{{rest}}}" + (f": {told}" if told else "")
    if more := message.get("truncatedAlerts"):
        yield f"and {more} more alerts of the group"


def default_config(folder: Path, url: str) -> Path:
    """Writes the alertmanager.yml that ships, with the address of the log, into a folder."""
    text = (conf_dir() / "alertmanager.yml").read_text()
    path = folder / "alertmanager.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace(_PLACEHOLDER, url))
    return path
