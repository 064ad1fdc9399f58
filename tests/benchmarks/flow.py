"""Samples at a steady rate into Kafka, as Arrow, from a process of its own.

    python tests/benchmarks/flow.py --brokers HOST:PORT --topic NAME --rate 20000 --series 100000
        [--late 0.05] [--late-days 10] [--history 500]

Prints "history" once the history is sent, and "at MS" once the first round of all live series is.
Ends when its standard input does, and prints "sent N". Live series take turns, so that each sample
is of now. Late ones are of the series that have a history: a sample a minute, all along.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import sys
import threading
import time

import numpy as np
import pyarrow as pa

from varve.ingest import arrow_codec
from varve.kafka.idempotent_producer import IdempotentProducer
from varve.model.identity import SeriesDefinition, define
from varve.model.window import DAY_MS, HOUR_MS, MINUTE_MS, floor_to

MESSAGE = 1_000
TICK_S = 0.1
METRICS = 50
PARTITIONS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--rate", type=int, required=True, help="samples a second, late ones too")
    parser.add_argument("--series", type=int, required=True, help="live ones")
    parser.add_argument("--late", type=float, default=0.0, help="share that comes late")
    parser.add_argument("--late-days", type=float, default=10.0)
    parser.add_argument("--history", type=int, default=0, help="series with a history")
    args = parser.parse_args()
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    flow = Flow(args)
    flow.tell_history()
    flow.run(ended)


class Flow:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.rng = np.random.default_rng(1)
        self.producer = IdempotentProducer(
            bootstrap_servers=args.brokers,
            linger_ms=20,
            batch_size=2**20,
            max_request_size=2**24,
            max_in_flight_requests_per_connection=1,
            # A broker may be away for long; what it misses waits here.
            delivery_timeout_ms=2 * HOUR_MS,
        )
        self.lost: list[BaseException] = []
        self.sent = self.messages = 0
        self.live = Series("live", args.series)
        self.past = Series("past", args.history)
        self.span_ms = int(args.late_days * DAY_MS)

    def tell_history(self) -> None:
        end = floor_to(time.time_ns() // 1_000_000 - 3 * HOUR_MS, MINUTE_MS)
        minutes = np.arange(end - self.span_ms, end, MINUTE_MS)
        count = self.args.history
        each = max(MESSAGE // count, 1) if count else 1
        for start in range(0, len(minutes) if count else 0, each):
            part = minutes[start : start + each]
            rows = np.tile(np.arange(count), len(part))
            ts = np.repeat(part, count) + self.rng.integers(1, MINUTE_MS, len(rows))
            self.send(self.past, rows, ts)
        self.producer.flush()
        print("history", flush=True)

    def run(self, ended: threading.Event) -> None:
        begun = last = time.monotonic()
        turn = done = 0
        while not ended.wait(max(last + TICK_S - time.monotonic(), 0)):
            last = time.monotonic()
            due = int((last - begun) * self.args.rate) - done
            done += due
            now_ms = time.time_ns() // 1_000_000
            late = self.rng.binomial(due, self.args.late)
            rows = np.arange(turn, turn + due - late) % self.args.series
            was_round, turn = turn // self.args.series, turn + due - late
            age = self.rng.integers(0, int(TICK_S * 1000), len(rows))
            self.send(self.live, rows, now_ms - age)
            if late:
                rows = self.rng.integers(0, self.args.history, late)
                self.send(self.past, rows, now_ms - self.rng.integers(0, self.span_ms, late))
            if was_round == 0 and turn // self.args.series > 0:
                print(f"at {now_ms}", flush=True)
        self.producer.flush()
        if self.lost:
            sys.exit(f"{len(self.lost)} messages were not taken: {self.lost[0]}")
        print(f"sent {self.sent}", flush=True)

    def send(self, series: Series, rows: np.ndarray, ts: np.ndarray) -> None:
        for start in range(0, len(rows), MESSAGE):
            part = rows[start : start + MESSAGE]
            message = series.message(part, ts[start : start + MESSAGE], self.rng)
            partition = self.messages % PARTITIONS
            future = self.producer.send(self.args.topic, message, partition=partition)
            future.add_errback(self.lost.append)
            self.messages += 1
        self.sent += len(rows)


class Series:
    """Counters, defined in the first message that has them; of 50 metrics, as one alone must not
    have so many series.
    """

    def __init__(self, metric: str, count: int) -> None:
        self.definitions: list[SeriesDefinition] = [
            define(
                f"{metric}_{k % METRICS}",
                {"instance": f"host-{k // METRICS}"},
                metric_type="counter",
            )
            for k in range(count)
        ]
        self.ids = np.array([d.series_id for d in self.definitions], np.int64)
        self.checks = np.array([d.check for d in self.definitions], np.int32)
        self.values = np.zeros(count)
        self.is_told = np.zeros(count, np.bool_)

    def message(self, rows: np.ndarray, ts: np.ndarray, rng: np.random.Generator) -> bytes:
        self.values[rows] += rng.random(len(rows))
        new = np.unique(rows[~self.is_told[rows]])
        self.is_told[new] = True
        columns = [self.ids[rows], self.checks[rows], ts, self.values[rows]]
        table = pa.Table.from_arrays(
            [pa.array(c) for c in columns], schema=arrow_codec.wire_schema("samples")
        )
        return arrow_codec.write(table, [self.definitions[k] for k in new])


if __name__ == "__main__":
    main()
