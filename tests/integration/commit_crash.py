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

from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.store import Store
from varve.storage.table import Table


def store_until_killed(root: str) -> None:
    store = Store(root)
    table = Table(store, TABLE)
    while True:
        start = table.position("bulk:t:0")
        first = start or 0
        written = write_file(store, TABLE, samples(range(first, first + 10)))
        commit(table, [written], transactions={"bulk:t:0": Step(start, first + 10)})


def main(root: str, kills: int) -> None:
    chance = random.Random(7)
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            store_until_killed(root)
        time.sleep(chance.uniform(0.02, 0.3))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
