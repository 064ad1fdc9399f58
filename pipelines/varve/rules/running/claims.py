"""Who evaluates what, written down before anything of it leaves: claims on the table alerts.

Groups are spread over shards. A commit of a process names its shards and moves the transaction
`rules:<shard>` of each: of two that believe to hold a shard, one notices the other. A claim says
which slots are evaluated as of which snapshot; whoever takes over a shard does again, as of the
same snapshot, the claims whose outcome nobody has noted. Positions tell how far each group is.
docs/adr/0030-a-claim-before-an-evaluation.md has the reasons.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, Final

import pyarrow as pa

from varve.rules.group_run import Part
from varve.rules.running.changes import TABLE
from varve.rules.running.slots import Cursor, Slot
from varve.storage import positions
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.log import LogEntry, LogExpired, entries
from varve.storage.store import Store
from varve.storage.table import Table

log = logging.getLogger(__name__)

KEY: Final = "rules"
"""Of a commit's metadata: what it says to the other processes."""

_BACK: Final = 64
"""Versions of the log that are read at once on the way back."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Slots that are evaluated as of one snapshot. number: of the process's claims. at_ms: when it
    was committed, Unix ms.
    """

    by: str
    number: int
    token: str
    slots: tuple[Slot, ...]
    at_ms: int

    @property
    def id(self) -> str:
        return f"{self.by}:{self.number}"

    def to_json(self) -> dict[str, Any]:
        slots = [
            [s.group, s.at_ms, s.part.value, s.late, s.fresh, *astuple(s.before)]
            for s in self.slots
        ]
        return {"number": self.number, "token": self.token, "slots": slots}

    @classmethod
    def of(cls, said: Mapping[str, Any], by: str, at_ms: int) -> Claim:
        slots = tuple(
            Slot(group, at, Part(part), Cursor(*before), late, fresh)
            for group, at, part, late, fresh, *before in said["slots"]
        )
        return cls(by, said["number"], said["token"], slots, at_ms)


@dataclass(slots=True)
class Shard:
    """What the log says of a shard. number: of its last commit, None if it has none. by: who
    holds it, "" if nobody does. at_ms: when that commit was made. open: claims of slots of it whose
    outcome nobody has noted.
    """

    number: int | None = None
    by: str = ""
    at_ms: int = 0
    open: list[Claim] = field(default_factory=list)


class ClaimLog:
    """The table alerts as the processes that evaluate rules see it. One thread uses it."""

    def __init__(
        self,
        store: Store,
        shards: int,
        member: str,
        *,
        lease_s: float,
        monotonic_s: Callable[[], float],
        now_ms: Callable[[], int],
        is_gone: Callable[[str], bool] = lambda _member: False,
    ) -> None:
        """member: this process's name, of which there is no other, ever. lease_s: a process that
        committed nothing for so long counts as dead. is_gone: whether a process is known to be.

        Raises NeedsOperator if there is no table, OSError if it cannot be reached.
        """
        self.member = member
        self.lease_s = lease_s
        self.shards = {number: Shard() for number in range(shards)}
        self._store, self._monotonic_s, self._now_ms = store, monotonic_s, now_ms
        self._is_gone = is_gone
        self._seen_s: dict[str, float] = {member: monotonic_s()}
        self._claims: dict[str, Claim] = {}
        self._numbers = 0
        self._table = Table(store, TABLE)
        self._look_back()

    # Reading

    def look(self) -> None:
        """Takes notice of what the others have committed."""
        fresh = self._table.refresh()
        if fresh is None:
            self._claims = {}
            self._look_back()
            return
        for entry in fresh:
            self._apply(entry, self._monotonic_s())

    def cursor(self, group: str) -> Cursor | None:
        """How far a group is; None if it has never been evaluated."""
        evaluated = self._table.position(positions.evaluated(group_id(group)))
        recorded = self._table.position(positions.recorded(group_id(group)))
        if evaluated is None or recorded is None:
            return None
        return Cursor(evaluated, recorded)

    def positions(self) -> Mapping[str, int]:
        """All positions of the table, as of the last look."""
        return self._table.positions()

    def alive(self) -> set[str]:
        """Processes that have committed within the lease, this one among them."""
        now_s = self._monotonic_s()
        held = {
            member
            for member, seen_s in self._seen_s.items()
            if now_s - seen_s <= self.lease_s and not self._is_gone(member)
        }
        return held | {self.member}

    def mine(self) -> set[int]:
        return {number for number, shard in self.shards.items() if shard.by == self.member}

    def to_take(self) -> set[int]:
        """Shards that are to be this process's and that nobody alive holds."""
        alive = self.alive()
        return {
            number
            for number, shard in self.shards.items()
            if shard.by not in alive and self._owner(number, alive) == self.member
        }

    def to_release(self) -> set[int]:
        """Shards of this process that another one is to have."""
        alive = self.alive()
        return {number for number in self.mine() if self._owner(number, alive) != self.member}

    @property
    def is_silent(self) -> bool:
        """Whether this process has to say that it lives."""
        return self._monotonic_s() - self._seen_s[self.member] > self.lease_s / 3

    # Writing. All raise Conflict if a rival has moved a shard, OSError if it is unknown whether
    # the commit arrived: then everything is to be read anew.

    def take(self, numbers: Collection[int]) -> None:
        """Makes shards this process's. Their open claims stay open."""
        self._commit(numbers, {"take": True})

    def release(self, numbers: Collection[int], rows: pa.Table | None, done: Iterable[str]) -> None:
        """Leaves shards to others."""
        self._commit(numbers, {"release": True, "done": list(done)}, rows=rows)

    def announce(self) -> None:
        """Says that this process lives."""
        held = self._table.position(positions.rules_members())
        step = Step(held, 0 if held is None else held + 1)
        self._write({positions.rules_members(): step}, {"by": self.member, "shards": {}}, None)

    def claim(
        self,
        numbers: Collection[int],
        slots: Sequence[Slot],
        token: str,
        rows: pa.Table | None = None,
        done: Iterable[str] = (),
    ) -> Claim:
        """Claims slots, at most one of a group, for evaluation as of a snapshot.

        rows and done: the outcome of earlier claims, whose samples and events have been
        acknowledged.
        """
        claim = Claim(self.member, self._numbers, token, tuple(slots), self._now_ms())
        steps: dict[str, Step] = {}
        for slot in slots:
            evaluated = positions.evaluated(group_id(slot.group))
            recorded = positions.recorded(group_id(slot.group))
            after = slot.after
            steps[evaluated] = Step(self._table.position(evaluated), after.evaluated_ms)
            steps[recorded] = Step(self._table.position(recorded), after.recorded_ms)
        said = {"claim": claim.to_json(), "done": list(done)}
        self._commit(numbers, said, steps, rows)
        self._numbers += 1
        return claim

    def slots_of(self, claim: Claim, number: int) -> list[Slot]:
        """A claim's slots of a shard."""
        return [s for s in claim.slots if shard_of(s.group, len(self.shards)) == number]

    def finish(self, numbers: Collection[int], rows: pa.Table, done: Iterable[str]) -> None:
        """Notes the outcome of claims, whose samples and events have been acknowledged."""
        self._commit(numbers, {"done": list(done)}, rows=rows)

    def note(self, number: int, rows: pa.Table | None, steps: Mapping[str, Step]) -> None:
        """Writes what belongs to no claim, with positions of its own, as the holder of a shard."""
        self._commit({number}, {}, steps, rows)

    def _commit(
        self,
        numbers: Collection[int],
        said: Mapping[str, Any],
        steps: Mapping[str, Step] | None = None,
        rows: pa.Table | None = None,
    ) -> None:
        moved = dict(steps or {})
        shards = {}
        for number in sorted(numbers):
            shard = self.shards[number]
            shards[str(number)] = [claim.id for claim in shard.open]
            new = 0 if shard.number is None else shard.number + 1
            moved[positions.rules(number)] = Step(shard.number, new)
        self._write(moved, {"by": self.member, "shards": shards, **said}, rows)

    def _write(
        self, steps: Mapping[str, Step], said: Mapping[str, Any], rows: pa.Table | None
    ) -> None:
        files = []
        if rows is not None and rows.num_rows:
            files.append(write_file(self._store, TABLE, rows))
        commit(Table(self._store, TABLE), files, transactions=steps, metadata={KEY: said})
        self.look()

    # What entries of the log mean

    def _look_back(self) -> None:
        """Reads back to the last commit of every shard, and to all claims that are open."""
        version = self._table.version
        found: list[LogEntry] = []
        wanted = {
            number
            for number in self.shards
            if self._table.position(positions.rules(number)) is not None
        }
        claims: set[str] = set()
        low = version
        while low >= 0 and (wanted or claims):
            after = max(-1, low - _BACK)
            try:
                piece = list(entries(self._store, TABLE, after, low))
            except LogExpired:
                log.warning("%s: the log does not reach back to the last claims", TABLE)
                break
            for entry in reversed(piece):
                found.append(entry)
                said = entry.metadata.get(KEY, {})
                claims.discard(f"{said.get('by')}:{said.get('claim', {}).get('number')}")
                for name, still_open in said.get("shards", {}).items():
                    if int(name) in wanted:
                        wanted.discard(int(name))
                        claims.update(still_open)
            low = after
        now_s, now_ms = self._monotonic_s(), self._now_ms()
        self.shards = {number: Shard() for number in self.shards}
        for entry in reversed(found):
            age_s = max(0, now_ms - (entry.timestamp_ms or 0)) / 1000
            self._apply(entry, now_s - age_s)
        for number, shard in self.shards.items():
            shard.number = self._table.position(positions.rules(number))

    def _apply(self, entry: LogEntry, seen_s: float) -> None:
        said = entry.metadata.get(KEY)
        if not said:
            return
        by, at_ms = said["by"], entry.timestamp_ms or 0
        self._seen_s[by] = max(seen_s, self._seen_s.get(by, seen_s))
        claim = Claim.of(said["claim"], by, at_ms) if "claim" in said else None
        if claim is not None:
            self._claims[claim.id] = claim
            if by == self.member:
                self._numbers = max(self._numbers, claim.number + 1)
        done = frozenset(said.get("done", ()))
        for name, was_open in said["shards"].items():
            shard = self.shards.get(int(name))
            if shard is None:
                continue  # there were more shards before
            held = [self._claims[one] for one in was_open if one in self._claims]
            held += [] if claim is None else [claim]
            # Open where its slots are: whoever holds another shard never gets to note it.
            shard.open = [
                one for one in held if one.id not in done and self.slots_of(one, int(name))
            ]
            shard.number = entry.positions[positions.rules(int(name))]
            shard.by = "" if said.get("release") else by
            shard.at_ms = at_ms
        used = {one.id for shard in self.shards.values() for one in shard.open}
        self._claims = {name: one for name, one in self._claims.items() if name in used}

    @staticmethod
    def _owner(shard: int, members: Collection[str]) -> str:
        """Of some processes the one that is to hold a shard: each gets about as many, and few
        move when one comes or goes.
        """
        return max(sorted(members), key=lambda member: _weight(f"{shard}:{member}"))


def group_id(group: str) -> str:
    """What positions call a group: a hash of its file and name."""
    return hashlib.blake2b(group.encode(), digest_size=8).hexdigest()


def shard_of(group: str, shards: int) -> int:
    return int(group_id(group), 16) % shards


def _weight(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
