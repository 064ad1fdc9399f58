"""A writer that is killed again and again: `python commit_crash.py ROOT KILLS`.

Every child stores [position, position + 10) of the table until SIGKILL hits it, wherever it is:
while it writes a file, before, in or after the commit, or in a checkpoint. Children are forked,
for a new interpreter takes longer to start than they live.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time

from commit_rival import TABLE, samples

from varve.model.schema import table_schema
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.store import Store
from varve.storage.table import Table


def store_until_killed(root: str, started: int) -> None:
    store = Store(root)
    table = Table(store, TABLE)
    while True:
        os.write(started, b".")
        start = table.position("bulk:t:0")
        first = start or 0
        written = write_file(store, TABLE, samples(range(first, first + 10)))
        commit(table, [written], transactions={"bulk:t:0": Step(start, first + 10)})


def main(root: str, kills: int) -> None:
    chance = random.Random(7)
    # Parsed once here, not in every child.
    table_schema(TABLE)
    for _ in range(kills):
        progress, started = os.pipe()
        child = os.fork()
        if child == 0:
            store_until_killed(root, started)
        os.close(started)
        # The second dot follows the first commit.
        os.read(progress, 1)
        os.read(progress, 1)
        time.sleep(chance.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(progress)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
