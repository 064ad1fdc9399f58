"""An S3 that can fail: answers 500 and 503, before or after it has done as asked, or hangs. To a
put that must replace nothing it answers 409 as well, and 412 although it was done, as to a client
that has sent it twice.

    with FaultyS3() as s3:
        store = Store(s3.root, s3.options)
        s3.failing = 0.5  # half of the requests fail from now on

moto looks whether a key exists and writes it in two steps, which two requests at once would tear
apart; S3 itself does not. So this one does one request at a time, though it hangs for many.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Any, Self

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Response

BUCKET = "tables"
HANG_S = 8.0

_ANSWERS = {
    "before": ("SlowDown", 503),
    "after": ("InternalError", 500),
    "hang": ("SlowDown", 503),
    "conflict": ("ConditionalRequestConflict", 409),
    "twice": ("PreconditionFailed", 412),
}
_ALWAYS, _CONDITIONAL = ("before", "after", "hang"), ("conflict", "twice")
# Those before which it does as asked.
_DONE = ("after", "twice")


class _Silent(WSGIRequestHandler):
    # Without it every request pays for a connection.
    protocol_version = "HTTP/1.1"

    def log_request(self, *_: object) -> None:
        pass


class FaultyS3:
    """failing: the share of requests, 0 to 1, that get an error or hang for HANG_S seconds.
    delay_s: how long each waits before it is answered, beside others.
    """

    def __init__(self, *, seed: int = 1) -> None:
        self.failing = 0.0
        self.delay_s = 0.0
        self.requests = 0
        self.faults: Counter[str] = Counter()
        self._rng = random.Random(seed)
        self._app: Any = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._server: BaseWSGIServer = make_server(
            "127.0.0.1", 0, self._answer, threaded=True, request_handler=_Silent
        )

    @property
    def root(self) -> str:
        return f"s3://{BUCKET}/varve"

    @property
    def options(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.server_port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        boto3.client(
            "s3",
            endpoint_url=self.options["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        ).create_bucket(Bucket=BUCKET)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environment: dict[str, Any], start_response: Any) -> Any:
        if self.delay_s:
            time.sleep(self.delay_s)
        fault = self._fault(is_conditional="HTTP_IF_NONE_MATCH" in environment)
        if fault == "hang":
            time.sleep(HANG_S)
        if fault in ("", *_DONE):
            with self._lock:
                if not fault:
                    return list(self._app(environment, start_response))
                list(self._app(environment, lambda *_: None))
        else:
            # To its end, not to that of the connection, which stays open.
            environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
        code, status = _ANSWERS[fault]
        body = f"<Error><Code>{code}</Code></Error>"
        return Response(body, status, content_type="application/xml")(environment, start_response)

    def _fault(self, *, is_conditional: bool) -> str:
        self.requests += 1
        if self._rng.random() >= self.failing:
            return ""
        fault = self._rng.choice((*_ALWAYS, *(_CONDITIONAL if is_conditional else ())))
        self.faults[fault] += 1
        return fault
