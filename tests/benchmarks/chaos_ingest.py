"""Kills ingest again and again, and counts: every sample sent is stored once or quarantined.

    python tests/benchmarks/chaos_ingest.py [--samples 2000000] [--kills 5] [--minutes M] [--seed N]

Four producers send numbered samples, garbage, and new series of a metric with a limit. The process
that ingests, Python and JVM alike, is killed (SIGKILL) --kills times at each point of a batch, and
the limit changed while it is down; once the broker is restarted, once two drivers run on one query,
once the tables are put back to an earlier state. At the end the tables are read: every number of
every producer is in the view `raw` once, with no copy, or in quarantine once, with its reason.
After --minutes no further process is killed: what was sent by then is accounted for, and it fails.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.integration.ingest.accounting import Ingesting
from tests.integration.ingest.faults import POINTS
from varve.local.broker import Broker

SAMPLES_PER_MESSAGE = 200
# Of those sent while waiting, and the time between two lots of them: they must not outweigh the
# ones sent on purpose.
SAMPLES_WHILE_WAITING = 20
PAUSE_S = 0.25


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2_000_000)
    parser.add_argument("--kills", type=int, default=5, help="at each point")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--scratch", type=Path, help="folder for broker and tables")
    args = parser.parse_args()
    # Asked to end, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(f"seed {args.seed}", flush=True)  # noqa: T201
    folder = Path(tempfile.mkdtemp(prefix="chaos-ingest-", dir=args.scratch))
    broker = Broker(folder / "kafka")
    broker.start()
    chaos = Chaos(broker, folder, args.samples, random.Random(args.seed))
    try:
        whole = chaos.run(args.kills, args.minutes * 60)
    finally:
        chaos.ingesting.close()
        broker.stop()
    shutil.rmtree(folder)
    return 0 if whole else 1


class Turn(NamedTuple):
    """What is done, and the point of a batch at which its process dies the number-th time."""

    act: Callable[[Turn], None]
    point: str = "none"
    number: int = 0

    @property
    def name(self) -> str:
        return self.act.__name__.replace("_", " ")


class Chaos:
    def __init__(self, broker: Broker, folder: Path, samples: int, chance: random.Random) -> None:
        self.broker, self.folder, self.samples, self.chance = broker, folder, samples, chance
        self.ingesting = Ingesting(
            broker.bootstrap_servers,
            folder / "home",
            deadline_s=600,
            samples_per_message=SAMPLES_WHILE_WAITING,
        )
        self.begun = time.monotonic()
        self.turns = 0
        self.kills: Counter[str] = Counter()
        self.owed: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def run(self, kills: int, seconds: float) -> bool:
        """Whether every turn was taken; AssertionError if a sample is lost or doubled."""
        turns: list[Turn] = []
        for _ in range(kills):
            # In rounds, so that each point has its share however far the time reaches.
            some = [Turn(self.kill_at, point, self.chance.randint(1, 3)) for point in POINTS]
            self.chance.shuffle(some)
            turns += some
        for act in (self.restart_broker, self.two_drivers, self.put_back):
            turns.insert(self.chance.randint(0, len(turns) // 2), Turn(act))
        self.change_limit()
        for number, turn in enumerate(turns, 1):
            if time.monotonic() > self.begun + seconds:
                self.say("no time for further turns")
                break
            # Shared out evenly, so that all of them meet data on its way.
            self.send_to(self.samples * number // (len(turns) + 1))
            begun = time.monotonic()
            following = turns[number] if number < len(turns) else Turn(self.put_back)
            self.turn(turn, following)
            self.seconds[turn.point] += time.monotonic() - begun
            self.turns += 1
            self.change_limit()
            self.say(f"{number}/{len(turns)} {turn.name} {turn.point}")
        self.send_to(self.samples)
        self.ingesting.start()
        self.ingesting.await_all()
        assert self.ingesting.terminate() == 0, self.ingesting.last_words()
        self.say("all is stored; reading the tables")
        self.report()
        return self.turns == len(turns)

    def turn(self, turn: Turn, following: Turn) -> None:
        self.ingesting.start(turn.point, turn.number)
        # Its JVM starts while this turn goes on.
        self.ingesting.prepare(following.point, following.number)
        turn.act(turn)

    def report(self) -> None:
        proof = self.ingesting.assert_exact()
        for point in POINTS:
            tell(
                f"{point:20} {self.kills[point]} kills, {self.owed[point]} of them with rejects"
                f" owed to quarantine, {self.seconds[point]:.0f} s"
            )
        refused = ", ".join(f"{n:,} {reason}" for reason, n in sorted(proof.quarantined.items()))
        tell(
            f"attempted {proof.attempted:,} = stored once {proof.stored:,} + quarantined {refused};"
            f" {proof.copies} copies in samples"
        )
        self.say("every sample is accounted for")

    def send_to(self, samples: int) -> None:
        while (left := samples - self.ingesting.sent) > 0:
            messages = min(500, left // SAMPLES_PER_MESSAGE + 1)
            self.ingesting.sources.send(messages, SAMPLES_PER_MESSAGE)

    def change_limit(self) -> None:
        """So that some of the series to come are within it and some beyond, or all beyond."""
        so_far = len(self.ingesting.sources.limited)
        self.ingesting.limit(self.chance.randint(so_far // 2, so_far + 100))

    def kill_at(self, turn: Turn) -> None:
        self.ingesting.send_until_killed(PAUSE_S)
        self.kills[turn.point] += 1
        self.owed[turn.point] += bool(self.ingesting.rejects_owed())

    def restart_broker(self, _: Turn) -> None:
        self.progress()
        self.broker.stop()
        self.broker.start()
        self.progress()
        self.ingesting.kill()

    def two_drivers(self, _: Turn) -> None:
        first, second = self.ingesting.process, self.ingesting.spawn("none", -1)
        assert first is not None
        while first.poll() is None and second.poll() is None:
            self.ingesting.send(7)
            time.sleep(PAUSE_S)
        self.ingesting.process = second if first.poll() is not None else first
        assert "Conflict" in self.ingesting.log.read_text()
        self.progress()
        self.ingesting.kill()

    def put_back(self, _: Turn) -> None:
        saved = self.folder / "saved"
        self.progress()
        self.ingesting.kill()
        self.ingesting.save(saved)
        self.ingesting.start()
        self.progress()
        self.progress()
        self.ingesting.kill()
        self.ingesting.put_back(saved)
        shutil.rmtree(saved)

    def progress(self) -> None:
        """Waits until more is stored than was."""
        before = self.ingesting.rows()
        self.ingesting.send_until(lambda: self.ingesting.rows() > before, PAUSE_S)

    def say(self, text: str) -> None:
        tell(
            f"{time.monotonic() - self.begun:5.0f} s, sent {self.ingesting.sent:,},"
            f" stored {self.ingesting.rows():,}: {text}"
        )


def tell(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
