"""How soon requests of every kind end, once they are to: at a deadline, or ended by somebody.

    python tests/benchmarks/bench_cancel.py --data DIR [--tries 20] [--cold] [--only PART]

DIR is as for bench_query.py, whose tables of one day this uses, and writes if they are not there. A
request is first answered to its end, or for 10 s at most. Then it is asked again with a deadline at
a random moment of that time, and again to be ended by POST /-/cancel at one; what is printed is how
much later than that its answer came, in ms: the median and the longest. With --cold the service has
memory for no sample, so that all are read from files. Exits 1 if one took 250 ms or more.
"""

# ruff: noqa: T201 - what it prints is its output; its chances are no secret
from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

import pyarrow.parquet as pq

from tests.benchmarks.bench_first_query import service
from tests.benchmarks.bench_query import await_head, written
from tests.benchmarks.bench_query_load import ROWS_A_FILE

AIM_MS = 250.0
LONGEST_S = 10.0
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
EVERYTHING = '{__name__!=""}'
RANGES = {
    "gauges of all": EVERYTHING,
    "rates of all": 'rate({__name__=~".+_total"}[5m])',
    "quantiles over time": f"quantile_over_time(0.9, {EVERYTHING}[1h])",
    "subquery": f"max_over_time(rate({EVERYTHING}[5m])[30m:1m])",
    "quantiles of buckets": (
        "histogram_quantile(0.9, sum by (le, instance)"
        " (rate(http_request_duration_seconds_bucket[5m])))"
    ),
    "topk": f"topk by (instance) (3, {EVERYTHING})",
    "two sides": f"{EVERYTHING} + {EVERYTHING}",
    "labels written": f'label_replace({EVERYTHING}, "x", "$1", "instance", "host-(.*)")',
    "counted values": f'count_values("v", round({EVERYTHING}))',
    "sums by instance": f"sum by (instance) (sum_over_time({EVERYTHING}[10m]))",
}
OTHERS = {
    "matrix": ("query", {"query": f"{EVERYTHING}[2h]"}),
    "sorted": ("query", {"query": f"sort_by_label({EVERYTHING}, 'instance', 'mode')"}),
    "series": ("series", {"match[]": EVERYTHING}),
    "values": ("label/instance/values", {"match[]": '{__name__=~".*_.*"}'}),
    "labels": ("labels", {"match[]": '{__name__=~".*_.*"}'}),
    "cardinality": ("status/tsdb", {}),
    "SQL": ("sql", {"query": "SELECT count(*) FROM range(200000) a, range(200000) b"}),
}


@dataclass(frozen=True)
class Ask:
    """A request. is_query: whether /-/cancel can end it."""

    path: str
    given: dict[str, str]
    is_query: bool

    def send(self, url: str, timeout_s: float) -> tuple[float, int]:
        """Seconds to the whole answer, and its status."""
        connection = HTTPConnection(url.removeprefix("http://"), timeout=120)
        body = urlencode(self.given | {"timeout": f"{timeout_s:.3f}"})
        began = time.perf_counter()
        if self.path in {"labels", "query", "query_range", "series", "sql"}:
            connection.request("POST", f"/api/v1/{self.path}", body, FORM)
        else:
            connection.request("GET", f"/api/v1/{self.path}?{body}")
        response = connection.getresponse()
        response.read()
        return time.perf_counter() - began, response.status


def main() -> int:
    args = arguments()
    root = written(args.data, 1, ROWS_A_FILE)
    ts = pq.read_table(args.data / "samples.parquet", columns=["ts"])["ts"].to_numpy()
    chances, missed = random.Random(args.seed), False
    settings = {"VARVE_QUERY__STEP_CACHE_MB": "0"}
    settings["VARVE_QUERY__CACHE_MB"] = "16" if args.cold else "512"
    with (
        tempfile.TemporaryDirectory(prefix="varve-cancel-") as folder,
        service(Path(folder), root, settings) as (url, _),
    ):
        await_head(HTTPConnection(url.removeprefix("http://"), timeout=60))
        print(f"{'':24}{'whole ms':>9}{'tries':>7}{'past a deadline':>17}{'past an end':>17}")
        for name, ask in asks(int(ts.max()) / 1000).items():
            if args.only not in name:
                continue
            whole_s, _ = ask.send(url, LONGEST_S)
            whole_s = min(whole_s, LONGEST_S)
            late = [past_deadline_ms(url, ask, chances, whole_s) for _ in range(args.tries)]
            ended = [past_end_ms(url, ask, chances, whole_s) for _ in range(args.tries)]
            shown = [f"{median(each):8.0f}{max(each):9.0f}" for each in (late, ended)]
            print(f"{name:24}{whole_s * 1e3:9.0f}{args.tries:7}{''.join(shown)}", flush=True)
            missed |= max(*late, *ended) >= AIM_MS
    return int(missed)


def asks(end_s: float) -> dict[str, Ask]:
    span = {"start": f"{end_s - 3 * 3600}", "end": f"{end_s}", "step": "15"}
    found = {name: Ask("query_range", {"query": q} | span, True) for name, q in RANGES.items()}
    for name, (path, given) in OTHERS.items():
        at = (
            {"time": f"{end_s}"} if path == "query" else {"start": span["start"], "end": f"{end_s}"}
        )
        found[name] = Ask(path, given if path == "sql" else given | at, path in {"query", "sql"})
    return found


def past_deadline_ms(url: str, ask: Ask, chances: random.Random, whole_s: float) -> float:
    """How long after its deadline the answer came; 0 if only the rest of it was sent after that."""
    deadline_s = max(0.001, chances.random() * whole_s)
    took_s, status = ask.send(url, deadline_s)
    return 0.0 if status == 200 else max(0.0, took_s - deadline_s) * 1e3


def past_end_ms(url: str, ask: Ask, chances: random.Random, whole_s: float) -> float:
    """How long after /-/cancel was sent the answer came; 0 if it came before or only the rest of it
    was sent after that, or if it is no query.
    """
    if not ask.is_query:
        return 0.0
    done_s = [float("inf")]

    def send() -> None:
        ask.send(url, 60)
        done_s[0] = time.perf_counter()

    asking = threading.Thread(target=send)
    asking.start()
    asking.join(chances.random() * whole_s)
    sent_s, was_ended = time.perf_counter(), False
    while asking.is_alive():
        connection = HTTPConnection(url.removeprefix("http://"), timeout=60)
        connection.request("GET", "/api/v1/status/active_queries")
        for one in json.loads(connection.getresponse().read())["data"]["queries"]:
            connection.request("POST", "/-/cancel", urlencode({"id": one["id"]}), FORM)
            response = connection.getresponse()
            response.read()
            was_ended |= response.status == 200
        asking.join(0.02)
    return max(0.0, done_s[0] - sent_s) * 1e3 if was_ended else 0.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--cold", action="store_true", help="with memory for no sample")
    parser.add_argument("--only", default="", help="part of the names of the requests")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
