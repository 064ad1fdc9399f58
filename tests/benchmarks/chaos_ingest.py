"""Kills ingest again and again, and counts: every sample sent is stored exactly once.

    python tests/benchmarks/chaos_ingest.py [--samples 2000000] [--kills 5] [--seed N]

Numbered samples and garbage are sent to a broker all the while. The process that ingests, Python
and JVM alike, is killed (SIGKILL) --kills times at each point of a batch; once the broker is
restarted, once two drivers run on one query, once the tables are put back to an earlier state. At
the end every number is in the table samples once and every piece of garbage in quarantine once.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.integration.ingest.accounting import Ingesting
from tests.integration.ingest.faults import POINTS
from varve.services.broker import Broker


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2_000_000)
    parser.add_argument("--kills", type=int, default=5, help="at each point")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--scratch", type=Path, help="folder for broker and tables")
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)  # noqa: T201
    folder = Path(tempfile.mkdtemp(prefix="chaos-ingest-", dir=args.scratch))
    broker = Broker(folder / "kafka")
    broker.start()
    chaos = Chaos(broker, folder, args.samples, random.Random(args.seed))
    try:
        chaos.run(args.kills)
    finally:
        chaos.ingesting.close()
        broker.stop()
    shutil.rmtree(folder)
    return 0


class Chaos:
    def __init__(self, broker: Broker, folder: Path, samples: int, chance: random.Random) -> None:
        self.broker, self.folder, self.samples, self.chance = broker, folder, samples, chance
        self.ingesting = Ingesting(
            broker.bootstrap_servers, folder / "home", deadline_s=600, samples_per_message=100
        )
        self.begun = time.monotonic()

    def run(self, kills: int) -> None:
        turns = [(self.kill_at, point) for point in POINTS for _ in range(kills)]
        turns += [(self.restart_broker, ""), (self.two_drivers, ""), (self.put_back, "")]
        self.chance.shuffle(turns)
        for number, (turn, point) in enumerate(turns, 1):
            # Shared out evenly, so that all of them meet data on its way.
            self.send_to(self.samples * number // (len(turns) + 1))
            turn(point)
            self.say(f"{number}/{len(turns)} {turn.__name__.replace('_', ' ')} {point}")
        self.send_to(self.samples)
        self.ingesting.start()
        self.ingesting.await_all()
        self.ingesting.terminate()
        self.ingesting.assert_exact()
        self.say("every sample stored once, all garbage quarantined once")

    def send_to(self, samples: int) -> None:
        while self.ingesting.sent < samples:
            self.ingesting.send(min(700, (samples - self.ingesting.sent) // 85 + 1))

    def kill_at(self, point: str) -> None:
        self.ingesting.start(point, self.chance.randint(1, 4))
        self.ingesting.send_until_killed()

    def restart_broker(self, _: str) -> None:
        self.ingesting.start()
        self.progress()
        self.broker.stop()
        self.broker.start()
        self.progress()
        self.ingesting.kill()

    def two_drivers(self, _: str) -> None:
        self.ingesting.start()
        first, second = self.ingesting.process, self.ingesting.spawn()
        assert first is not None
        while first.poll() is None and second.poll() is None:
            self.ingesting.send(7)
            time.sleep(0.05)
        self.ingesting.process = second if first.poll() is not None else first
        self.progress()
        self.ingesting.kill()

    def put_back(self, _: str) -> None:
        saved = self.folder / "saved"
        self.ingesting.save(saved)
        self.ingesting.start()
        self.progress()
        self.ingesting.kill()
        self.ingesting.put_back(saved)
        shutil.rmtree(saved)

    def progress(self) -> None:
        """Waits until more is stored than was."""
        before = self.ingesting.rows()
        self.ingesting.send_until(lambda: self.ingesting.rows() > before)

    def say(self, text: str) -> None:
        seconds = time.monotonic() - self.begun
        stored = self.ingesting.rows()
        print(  # noqa: T201
            f"{seconds:7.0f} s, sent {self.ingesting.sent:,} + {self.ingesting.bad:,},"
            f" stored {stored:,}: {text}",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
