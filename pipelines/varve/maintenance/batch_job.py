"""The form of a batch job: what is due is planned from the tables as they are, then it is done.

varve.services.batch_jobs runs jobs from a command line, jobs/*.py and `varve` commands alike.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from varve.storage.snapshot import Snapshot, snapshot
from varve.storage.store import Store


class Account(Protocol):
    """What a job would do, or what it has done."""

    def as_json(self) -> Mapping[str, Any]:
        """The figures, for programs."""
        ...

    def lines(self) -> Iterable[str]:
        """The same for a person; at least one line, even if nothing is due."""
        ...


Work = TypeVar("Work", bound=Account)


class BatchJob(Protocol[Work]):
    """A job that may be run at any time, and again: what is done already is not due any more."""

    name: ClassVar[str]
    tables: ClassVar[tuple[str, ...]]
    """The tables it plans from."""

    def plan(self, now_ms: int, snapshots: Mapping[str, Snapshot]) -> Work:
        """What is due at now_ms, by the snapshots of `tables`. Changes nothing."""
        ...

    def run(self, work: Work) -> Account:
        """Does the work and says what came of it. A crash leaves nothing half done that the next
        run does not finish; work that a rival has done meanwhile is left out.
        """
        ...


@dataclass(frozen=True, slots=True)
class Report:
    """What a run of a job came to. done: None for a dry run."""

    job: str
    planned: Account
    done: Account | None

    def as_json(self) -> Mapping[str, Any]:
        done = None if self.done is None else self.done.as_json()
        return {"job": self.job, "planned": self.planned.as_json(), "done": done}

    def lines(self) -> Iterable[str]:
        yield from self.planned.lines()
        if self.done is None:
            yield "a dry run: nothing was changed"
        else:
            yield from self.done.lines()


def execute(
    job: BatchJob[Any],
    store: Store,
    now_ms: int,
    *,
    dry_run: bool = False,
    only: Collection[str] | None = None,
) -> Report:
    """Plans the job and, unless it is a dry run, does it. only: of its tables, those to plan from,
    for a job whose tables do not depend on each other; None for all.

    Raises what the job raises, and NeedsOperator if one of the tables does not exist.
    """
    tables = [table for table in job.tables if only is None or table in only]
    work = job.plan(now_ms, {table: snapshot(store, table) for table in tables})
    return Report(job.name, work, None if dry_run else job.run(work))
