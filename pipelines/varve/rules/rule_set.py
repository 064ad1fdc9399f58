"""All groups of all files, and how new files take the place of the old ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from varve.model.staleness import STALE_NAN
from varve.promql.labels.label_table import Labels
from varve.rules.group_run import GroupRun
from varve.rules.instant import Sample
from varve.rules.rule_file import Group


class RuleSet:
    """The groups in the order of their files."""

    def __init__(self, groups: Iterable[Group] = (), *, restores: bool = True) -> None:
        """restores: whether the for-state of alerts is taken from their series."""
        self._runs = {group.key: GroupRun(group, restores=restores) for group in groups}
        self._orphans: frozenset[Labels] = frozenset()

    def __iter__(self) -> Iterator[GroupRun]:
        return iter(self._runs.values())

    def update(
        self, groups: Iterable[Group], make: Callable[[Group], GroupRun] = GroupRun
    ) -> list[GroupRun]:
        """Takes other groups. An equal one goes on as it is, a changed one with its state, a new
        one as `make` gives it. Returns those that are gone, whose series end.
        """
        before, self._runs = self._runs, {}
        for group in groups:
            known = before.pop(group.key, None)
            if known is not None and known.group == group:
                self._runs[group.key] = known
                continue
            run = self._runs[group.key] = make(group) if known is None else GroupRun(group)
            if known is not None:
                run.take_over(known)
        gone = list(before.values())
        self._orphans = self._orphans.union(*(run.open_series for run in gone))
        return gone

    def leave(self, keys: Collection[str]) -> None:
        """Leaves groups to another process, which goes on with their series."""
        self._runs = {key: run for key, run in self._runs.items() if key not in keys}

    def ends(self, ts_ms: int) -> tuple[Sample, ...]:
        """The ends, at `ts_ms`, of series whose groups are gone; each is given once."""
        written = frozenset().union(*(run.open_series for run in self))
        ended, self._orphans = self._orphans - written, frozenset()
        return tuple(Sample(labels, ts_ms, STALE_NAN) for labels in sorted(ended))
