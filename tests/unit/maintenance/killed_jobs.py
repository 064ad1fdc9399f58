"""Jobs that are killed around everything they commit or delete: `killed_jobs.py FOLDER [JOB ...]`;
or whose disk is full: `killed_jobs.py FOLDER --disk SMALL_DISK [JOB ...]`.

For each job a home is copied twice. In the first copy the job runs undisturbed. In the second it is
run by child after child, each of which SIGKILL hits at its next commit (or deletion): before it,
then right after it, until one ends by itself. Or the second lies on a disk that has ever more room
left, but too little. After each death every table has to show rows of before or of after, and none
less than both have; at the end it has to be as in the first copy.
Prints a line of JSON for each job. Children are forked, and they alone read tables: a process with
threads is not to be forked.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests import small_disk
from tests.year import BEGIN, Year, retention
from varve.anomaly.baseline_job import Baselines
from varve.maintenance.backup import list_backups, take_backup
from varve.maintenance.batch_job import execute
from varve.maintenance.compaction import Compaction
from varve.maintenance.deletion import Deletion
from varve.maintenance.deletion_log import Wanted
from varve.maintenance.expiry import EXPIRING, Expiration
from varve.maintenance.quality.job import QualityCheck
from varve.maintenance.quality.suites import Thresholds
from varve.maintenance.restore import restore_backup
from varve.maintenance.series_trimming import Trimming
from varve.maintenance.tiering import HANDOVER_MS, Tiering
from varve.maintenance.vacuum import Vacuum
from varve.model.clock import ManualClock
from varve.model.compiled import warm_up
from varve.model.errors import TemporaryError
from varve.model.identity import define
from varve.model.schema import TABLES, table_schema
from varve.model.window import DAY_MS, HOUR_MS, Window
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.store import Store

KEPT = retention(2, 3, 5, 6, 7, debug=(1, 1))
DAYS = 3
NOW = BEGIN + DAYS * DAY_MS
FAR = NOW + 1_000 * DAY_MS
"""By which all files are old: their age is that of the disk's clock."""
KERNELS = (
    *("varve.model.copies", "varve.storage.scaled_values"),
    *("varve.rollups.kernel", "varve.rollups.window_keys"),
)
ROOMS = (0, 2_000, 6_000, 20_000, 60_000, 200_000)
"""Bytes that a full disk has left: from nothing to a part of what a job writes."""
MOST = 60
"""Deaths of a job; more mean that it never ends."""

Contents = dict[str, dict[str, str]]
"""Rows by table and key, as text."""


@dataclass(frozen=True, slots=True)
class Job:
    """work: what is killed and done again, on a home, in each of `rounds`. method: of Store, at
    whose calls it dies. most: how often, where a run always finds something to do.
    """

    work: Callable[[Path, int], object]
    rounds: int = 1
    method: str = "put_if_absent"
    most: int = MOST
    deeper: bool = False
    """Whether one that goes on does its commits again: then it dies at a later one each time."""
    shown: str = ""
    """The folder of the home whose tables are compared; empty for its own."""


def store_of(home: Path) -> Store:
    return Store(str(home / "hot"), {}, Store(str(home / "cold")))


def run(job: Any, home: Path, now_ms: int = NOW) -> object:
    return execute(job, store_of(home), now_ms)


def compact(home: Path, _: int) -> object:
    return run(Compaction(store_of(home)), home)


def tier(home: Path, turn: int) -> object:
    return run(Tiering(store_of(home), [2 * DAY_MS]), home, NOW + turn * HANDOVER_MS)


def expire(home: Path, _: int) -> object:
    return execute(Expiration(store_of(home), KEPT), store_of(home), NOW, only=EXPIRING)


def trim(home: Path, _: int) -> object:
    return run(Trimming(store_of(home)), home)


def vacuum(home: Path, _: int) -> object:
    return run(Vacuum(store_of(home)), home, FAR)


def delete(home: Path, _: int) -> object:
    wanted = Wanted(("requests_total",), BEGIN + 5 * HOUR_MS, NOW - 20 * HOUR_MS)
    return run(Deletion(store_of(home), wanted), home)


def baseline(home: Path, _: int) -> object:
    return run(Baselines(store_of(home)), home)


def quality(home: Path, _: int) -> object:
    job = QualityCheck(
        store_of(home),
        Thresholds(0.05, 0.1, 0.02, 0.95),
        lambda _events, _found, _at_ms: None,
        rows=100,
        hours=1,
        window=Window(NOW - DAY_MS, NOW),
    )
    return run(job, home)


def back_up(home: Path, _: int) -> object:
    return take_backup(store_of(home), Store(str(home / "backups")), ManualClock(NOW))


def restore(home: Path, _: int) -> object:
    backups = Store(str(home / "backups"))
    if not list_backups(backups):
        back_up(home, 0)
    return restore_backup(backups, store_of(home / "again"), list_backups(backups)[-1])


JOBS: Mapping[str, Job] = {
    "compact": Job(compact),
    "tier": Job(tier, rounds=2),
    "expire": Job(expire),
    "trim": Job(trim, deeper=True),
    "vacuum": Job(vacuum, method="delete"),
    "delete": Job(delete),
    "baseline": Job(baseline),
    "check_quality": Job(quality, most=2),
    "backup": Job(back_up, most=2),
    "restore": Job(restore, method="delete", most=1, shown="again"),
}


def main(folder: Path, disk: Path | None, names: list[str]) -> None:
    """disk: where the homes lie whose jobs find it full; None if they are to be killed."""
    made = folder / "made"
    # Loaded once here, not in every child.
    warm_up(*KERNELS)
    for name in TABLES:
        table_schema(name)
    forked(partial(fill, made))
    for name in names or JOBS:
        if disk is None:
            told = killed(JOBS[name], made, folder / name)
        else:
            told = starved(JOBS[name], made, folder / name, disk)
        print(json.dumps({"job": name, **told}), flush=True)  # noqa: T201


def fill(home: Path) -> None:
    """Some days that are rolled up, and compacted once, and some series of which nothing is left,
    so that there is work for every job.
    """
    cold = Store(str(home / "cold"))
    year = Year(str(home / "hot"), KEPT, seed=3, each_ms=2 * HOUR_MS, colder=cold)
    year.tables.define(define("pod_calls", {"pod": str(n)}) for n in range(3))
    for day in range(DAYS):
        year.day(parts=2)
        if day == 1:
            year.compact()


def killed(job: Job, made: Path, folder: Path) -> Mapping[str, Any]:
    """Does the job undisturbed and killed; says how often it died, and what was wrong."""
    deaths = 0

    def attempts(work: Callable[[], object]) -> Iterator[bool]:
        nonlocal deaths
        while deaths < job.most and dies(
            work, job.method, written=deaths % 2 == 1, at=deaths // 2 + 1 if job.deeper else 1
        ):
            deaths += 1
            yield True

    return disturbed(job, made, folder / "calm", folder / "killed", attempts)


def starved(job: Job, made: Path, folder: Path, disk: Path) -> Mapping[str, Any]:
    """Does the job undisturbed, and on a disk that is full; says how often it failed."""
    home = disk / "home"

    def attempts(work: Callable[[], object]) -> Iterator[bool]:
        for room in ROOMS:
            filler = small_disk.fill(disk, leave_bytes=room)
            failed = fails(work)
            filler.unlink()
            yield failed

    told = disturbed(job, made, folder / "calm", home, attempts)
    shutil.rmtree(home)
    return told


def disturbed(
    job: Job,
    made: Path,
    calm: Path,
    home: Path,
    attempts: Callable[[Callable[[], object]], Iterator[bool]],
) -> Mapping[str, Any]:
    """Does the job in a copy of its own, undisturbed, and in another one after some attempts at
    each of its rounds, which say whether they failed. What readers see is compared after each.
    """
    for copy in (calm, home):
        shutil.copytree(made, copy)
    before = seen(home / job.shown)
    for turn in range(job.rounds):
        forked(partial(job.work, calm, turn))
    after = seen(calm / job.shown)
    failures, wrong = 0, []
    for turn in range(job.rounds):
        work = partial(job.work, home, turn)
        for failed in attempts(work):
            failures += failed
            wrong += differences(before, after, seen(home / job.shown))
        forked(work)
    at_last = seen(home / job.shown)
    return {
        "deaths": failures,
        "changed": before != after,
        "wrong": wrong[:3],
        "same_end": at_last == after,
    }


def fails(work: Callable[[], object]) -> bool:
    """Whether a child finds no room; it ends by itself if it does."""

    def starving() -> None:
        try:
            work()
        except (OSError, TemporaryError) as err:
            if f"Errno {errno.ENOSPC}" not in str(err):
                raise
            os.kill(os.getpid(), signal.SIGKILL)

    return os.WIFSIGNALED(forked(starving))


def forked(work: Callable[[], object]) -> int:
    """The wait status of a child that does some work; whatever it raises ends this process."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - it must not go on with what its parent does
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status and not os.WIFSIGNALED(status):
        sys.exit(f"a child failed with {status}")
    return status


def dies(work: Callable[[], object], method: str, *, written: bool, at: int = 1) -> bool:
    """Whether a child was killed at a call of the method, before it or right after. at: at the how
    many-th.
    """

    def doomed() -> None:
        calls, left = getattr(Store, method), at

        def kills(store: Store, table: str, what: Sequence[str] | str, *rest: object) -> object:
            nonlocal left
            if not what:
                return None  # nothing to delete
            left -= 1
            if left:
                return calls(store, table, what, *rest)
            if written:
                calls(store, table, what, *rest)
            os.kill(os.getpid(), signal.SIGKILL)
            return None

        setattr(Store, method, kills)
        work()

    return os.WIFSIGNALED(forked(doomed))


def differences(before: Contents, after: Contents, now: Contents) -> Iterator[str]:
    """What a table shows that is neither of before nor of after, or lacks that is of both."""
    for name in TABLES:
        old, new, there = before.get(name, {}), after.get(name, {}), now.get(name, {})
        if lost := [key for key in old.keys() & new.keys() if key not in there]:
            yield f"{name} has lost {len(lost)} rows, such as {min(lost)}"
        strange = [k for k, row in there.items() if row not in (old.get(k), new.get(k))]
        if strange:
            yield f"{name} has {len(strange)} other rows, such as {min(strange)}"


def seen(home: Path) -> Contents:
    """What readers see in a home: of revisions the newest, of copies one. By a child."""
    told = home.with_name(f"{home.name}.json")

    def tell() -> None:
        told.write_text(json.dumps(dict(contents(store_of(home)))))

    forked(tell)
    found: Contents = json.loads(told.read_text())
    return found


def contents(store: Store) -> Iterator[tuple[str, dict[str, str]]]:
    for name in TABLES:
        if len(list(Path(store.uri(name), "_delta_log").glob("*.json"))) < 2:
            continue  # nothing has ever come
        time = table_schema(name).time_column
        newest: dict[str, tuple[int, str]] = {}
        for row in snapshot(store, name).scan(Bounds()).to_pylist():
            revision = row.pop("revision", 0)
            key = repr((row["series_id"], row[time])) if time and "series_id" in row else repr(row)
            newest[key] = max(newest.get(key, (-1, "")), (revision, repr(row)))
        yield name, {key: row for key, (_, row) in newest.items()}


if __name__ == "__main__":
    at, *rest = sys.argv[1:]
    small = Path(rest[1]) if rest[:1] == ["--disk"] else None
    main(Path(at), small, rest if small is None else rest[2:])
