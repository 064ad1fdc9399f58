"""An S3 with one bucket, `tables`, until stdin closes: `python commit_s3.py` prints its port.

moto looks whether a key exists and writes it in two steps, which two requests at once would tear
apart; S3 itself does not. So this one takes one request at a time.
"""

from __future__ import annotations

import sys
import threading

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


class Silent(WSGIRequestHandler):
    # Without it every request pays for a connection.
    protocol_version = "HTTP/1.1"

    def log_request(self, *_: object) -> None:
        pass


class Bucket:
    """The server, in a thread. requests: method, path and query of each, in order."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        app, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

        def one_at_a_time(environment, start_response):
            with lock:
                address = f"{environment['PATH_INFO']}?{environment['QUERY_STRING']}".rstrip("?")
                self.requests.append((environment["REQUEST_METHOD"], address))
                return list(app(environment, start_response))

        self._server = make_server(
            "127.0.0.1", 0, one_at_a_time, threaded=True, request_handler=Silent
        )
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        ).create_bucket(Bucket="tables")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def main() -> None:
    print(Bucket().port, flush=True)  # noqa: T201
    sys.stdin.read()


if __name__ == "__main__":
    main()
