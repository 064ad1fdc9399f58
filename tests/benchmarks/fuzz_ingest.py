"""Damages messages for as long as it is told to: any bytes become samples or a reason.

    python tests/benchmarks/fuzz_ingest.py [--minutes 10] [--seed N]

Messages that come to something new are damaged further. Every so often a lot goes through a whole
task, into files, whose rows are counted. Fails, naming the file it keeps the message in, if a
message raises, is neither stored nor refused, takes over --seconds of CPU, or if the process takes
over --mib more memory than after its first minute. Equal seeds begin equally.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.plans import task_plan
from tests.unit.ingest.fuzzing import MAX_BYTES, Message, check, corpus, mutate
from tests.unit.ingest.messages import NOW_MS, encoded
from varve.ingest.decoder import Decoder
from varve.ingest.outcome import Outcome
from varve.ingest.task import run_task
from varve.kafka import message as kafka
from varve.storage.store import Store
from varve.storage.table import create_tables

# Messages of a lot, and lots after which one goes through a whole task.
LOT = 50
WHOLE_EVERY = 40
# New messages that are damaged further, and the longest of them.
GROWN = 400
GROWN_BYTES = 20_000
SAY_EVERY_S = 30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--seconds", type=float, default=2.0, help="CPU of one message")
    parser.add_argument("--mib", type=float, default=512, help="growth of the resident set")
    parser.add_argument("--scratch", type=Path, help="folder for tables")
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)  # noqa: T201
    folder = Path(tempfile.mkdtemp(prefix="fuzz-ingest-", dir=args.scratch))
    fuzzing = Fuzzing(folder, random.Random(args.seed), args.seconds, args.mib * 2**20)
    fuzzing.run(args.minutes * 60)
    shutil.rmtree(folder)
    return 0


class Fuzzing:
    def __init__(self, folder: Path, chance: random.Random, seconds: float, growth: float) -> None:
        self.folder, self.chance = folder, chance
        self.seconds, self.growth = seconds, growth
        self.decoder, self.among = Decoder(), corpus()
        self.good = self.among.copy()
        self.first = len(self.good)
        self.kinds: set[str] = set()
        self.messages = self.samples = self.refused = 0
        self.slowest = 0.0
        self.resident = 0
        self.settled: int | None = None

    def run(self, duration_s: float) -> None:
        begun = said = time.monotonic()
        lots = 0
        while (now := time.monotonic()) < begun + duration_s:
            lot = [mutate(self.chance, (self.good, self.among)[n % 2]) for n in range(LOT)]
            for message in lot:
                self.decode(message)
            lots += 1
            if lots % WHOLE_EVERY == 0:
                self.store(lot)
            self.watch_memory(now - begun)
            if now - said >= SAY_EVERY_S:
                said = now
                self.say(now - begun)
        self.say(time.monotonic() - begun)

    def decode(self, message: Message) -> None:
        begun = time.process_time()
        try:
            kinds = check(self.decoder, message)
        except BaseException:
            self.keep(message)
            raise
        taken = time.process_time() - begun
        self.slowest = max(self.slowest, taken)
        if taken > self.seconds:
            raise AssertionError(f"{taken:.1f} s of CPU: {self.keep(message)}")
        self.messages += 1
        fresh = not self.kinds.issuperset(kinds)
        self.kinds.update(kinds)
        if fresh and len(message[0]) <= GROWN_BYTES:
            if len(self.among) >= self.first + GROWN:
                del self.among[self.chance.randrange(self.first, len(self.among))]
            self.among.append(message)

    def store(self, lot: Sequence[Message]) -> None:
        """The lot as one task of a batch: its accounting and its files agree."""
        store = Store(str(self.folder / "tables"))
        create_tables(store, ("samples", "series", "quarantine"))
        plan = task_plan(
            store,
            now_ms=NOW_MS,
            max_message_bytes=MAX_BYTES,
            definition_topics=frozenset({"defined"}),
        )
        messages = [
            kafka.Message(topic, 0, offset, NOW_MS, body, encoded(encoding))
            for offset, (body, encoding) in enumerate(lot)
            for topic in ("sent", "defined")
        ]
        (outcome,) = run_task(messages, plan)
        refused = sum(outcome.rejected.values())
        assert outcome.messages == len(messages)
        assert outcome.received == outcome.stored + outcome.merged + refused
        assert outcome.stored == sum(f.rows for f in outcome.files)
        assert Outcome.from_json(outcome.to_json()) == outcome
        self.samples += outcome.stored + outcome.merged
        self.refused += refused
        shutil.rmtree(store.root)

    def watch_memory(self, seconds: float) -> None:
        now = psutil.Process().memory_info().rss
        self.resident = max(self.resident, now)
        if self.settled is None and seconds >= 60:
            self.settled = self.resident
        if self.settled is not None and now > self.settled + self.growth:
            raise AssertionError(f"{now >> 20} MiB, after {self.settled >> 20} in the first minute")

    def keep(self, message: Message) -> Path:
        file = Path(f"fuzz-ingest-{message[1] or 'plain'}.bin").absolute()
        file.write_bytes(message[0])
        print(f"the message is in {file}", flush=True)  # noqa: T201
        return file

    def say(self, seconds: float) -> None:
        print(  # noqa: T201
            f"{seconds:5.0f} s: {self.messages:,} messages, {len(self.kinds)} kinds of outcome,"
            f" {self.samples:,} samples stored and {self.refused:,} refused by whole tasks;"
            f" slowest message {self.slowest:.2f} s CPU, at most {self.resident >> 20} MiB",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
