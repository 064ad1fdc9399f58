"""Tiering: files whose rows are old move to a colder root, while everything else goes on.

A move is a number. The files are copied as they are, under their names, and committed to the table
of the colder root, which then has the position `arrived`; HANDOVER_MS later those that are still
live in the root above, and whose copies have the same rows, are removed there in the commit that
moves `moved` to the same number. Whoever opens the roots within that time, in whatever order,
misses no row; who sees a file in both roots knows it by its name. A move that dies is finished by
the next run, as far as it came.

A file that was rewritten above before its copy took over (by compaction, expiry, a deletion) stays
above, and its copy goes; at once if rows went, as they are still in the copy. Late rows of a range
that has moved lie above as any new rows do, and move later.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import ClassVar

from varve.maintenance.compaction import due_merges, merge_files
from varve.maintenance.moves import AllMoved, DueMove, DueMoves, Link, Moved
from varve.model.errors import Conflict, NeedsOperator, TemporaryError
from varve.model.schema import table_schema
from varve.model.window import MINUTE_MS, TIERS
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, Step, commit, rewrite
from varve.storage.content_hash import content_hash
from varve.storage.files import NewFile, fingerprint
from varve.storage.log import LiveFile, LogEntry, LogExpired, entries
from varve.storage.scan import read_rows
from varve.storage.snapshot import Snapshot, snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables
from varve.storage.unreadable import find_unreadable

TABLES = ("samples", *(tier.table for tier in TIERS))
"""The tables whose files move."""

HANDOVER_MS = 15 * MINUTE_MS
"""How long a file is in both roots at least: the time that a reader may take to open them."""

MOST_FILES = 512
MOST_BYTES = 16 * 2**30
"""Of one move of a table. The rest is left to the next."""

_KEY = "move"

_ATTEMPTS = 20

log = logging.getLogger(__name__)


class Tiering:
    """The batch job: for each table and each two roots, finishes a move or begins the next."""

    name: ClassVar[str] = "tier"
    tables: ClassVar[tuple[str, ...]] = TABLES

    def __init__(self, store: Store, after_ms: Sequence[int]) -> None:
        """after_ms: age of the rows at which files leave each root but the coldest, hot first.

        Raises NeedsOperator if the store has no colder root.
        """
        roots = store.roots()
        if len(roots) < 2:
            raise NeedsOperator("files have nowhere to move to: set storage.cold_root")
        if len(after_ms) != len(roots) - 1:
            raise ValueError(f"{len(roots)} roots have {len(roots) - 1} ages, not {len(after_ms)}")
        self._store = store
        self._links = [Link(*pair) for pair in zip(roots, roots[1:], after_ms, strict=False)]

    def plan(self, now_ms: int, snapshots: Mapping[str, Snapshot]) -> DueMoves:
        """Raises TemporaryError if a root is out of reach."""
        found = (self.due(table, now_ms) for table in snapshots)
        return DueMoves(tuple(move for moves in found for move in moves))

    def run(self, work: DueMoves) -> AllMoved:
        return AllMoved(tuple(self.move(due) for due in work.moves))

    def due(self, table: str, now_ms: int) -> list[DueMove]:
        """What is due for a table, the coldest roots first. TemporaryError as `plan`."""
        found = []
        for link in reversed(self._links):
            try:
                held = snapshot(link.upper, table)
            except NeedsOperator:
                continue  # nothing has come to that root yet
            except OSError as err:
                raise _out_of_reach(link.upper, err) from err
            try:
                owed = _owed(link, table)
            except OSError as err:
                raise _out_of_reach(link.lower, err) from err
            files = [] if owed is not None else self._old_files(link, held, now_ms)
            if owed is not None or files:
                found.append(DueMove(link, table, owed, tuple(files), now_ms))
        return found

    def move(self, due: DueMove) -> Moved:
        """Does the next step. What it has done stays done, whatever fails. Raises TemporaryError as
        `plan` does, Conflict if a rival was here.
        """
        try:
            if due.owed is not None:
                return _finish(due, due.owed)
            return _begin(due)
        except OSError as err:
            raise _out_of_reach(due.link.lower, err) from err

    def _old_files(self, link: Link, held: Snapshot, now_ms: int) -> list[LiveFile]:
        """Files that may move, the oldest first: of closed windows, laid out for good, and with no
        row that waits for a repair.
        """
        table = held.table
        hot = self._store.alone
        above = next((tier for tier in TIERS if tier.source == table), None)
        until_ms, waiting = now_ms - link.after_ms, set[str]()
        if above is not None:
            rolled = Table(hot, above.table)
            frontier = rolled.position(positions.frontier(above.name))
            if frontier is None:
                return []
            until_ms = min(until_ms, frontier)
            if link.upper == hot:
                source = rolled.position(positions.source(above.name))
                try:
                    news = entries(hot, table, -1 if source is None else source, held.version)
                    waiting = {file.path for entry in news for file in entry.adds}
                except LogExpired:
                    return []  # what waits for its repair cannot be told
        expired = Table(hot, table).position(positions.expired())
        merging = {file.path for merge in due_merges(held, now_ms) for file in merge.files}
        time = held.time_column
        old = [
            file
            for file in held.files
            if file.maximum.get(time, until_ms + 1) <= until_ms
            and file.path not in waiting
            and file.path not in merging
            and (expired is None or file.maximum[time] > expired)
        ]
        old.sort(key=lambda file: file.minimum[time])
        chosen: list[LiveFile] = []
        nbytes = 0
        for file in old[:MOST_FILES]:
            nbytes += file.size
            if chosen and nbytes > MOST_BYTES:
                break
            chosen.append(file)
        return chosen


def give_up(store: Store, table: str) -> None:
    """Takes the copies of a move that is under way back, between all roots: they would show rows
    that are about to go above. A rival that finishes the move meanwhile is left alone.

    Raises OSError if a colder root is out of reach, Conflict if rivals are in the way all the time.
    """
    for link in _links(store):
        _end(link, table, _give_up)


def take_back(store: Store, table: str) -> None:
    """Takes those copies of a move that is under way back, between all roots, whose files are no
    longer live above: who has rewritten some to be rid of rows calls it, as a copy still has them.
    A move that begins afterwards sees by itself what has been rewritten.

    Raises OSError or NeedsOperator if a colder root is out of reach, Conflict as `give_up`.
    """
    for link in _links(store):
        _require_what_has_moved(link, table)
        _end(link, table, _take_rewritten_back)


def _links(store: Store) -> Iterator[Link]:
    return (Link(upper, lower, 0) for upper, lower in itertools.pairwise(store.roots()))


def _end(link: Link, table: str, how: Callable[[Link, str, int], None]) -> None:
    """Ends a move that is under way, or a part of it, in spite of rivals."""
    for _ in range(_ATTEMPTS):
        if (owed := _owed(link, table)) is None:
            return
        try:
            how(link, table, owed)
        except Conflict as err:
            log.info("%s: looked at again: %s", table, err)
        else:
            return
    raise Conflict(f"{table}: {_ATTEMPTS} attempts to take copies back met a rival")


def _take_rewritten_back(link: Link, table: str, number: int) -> None:
    _take_back(link, table, number, _rewritten(link, table, _names(link, table, number)))


def _give_up(link: Link, table: str, number: int) -> None:
    """Says above that the move is given up before its copies go: whoever was about to remove the
    files above, as the copies were there a moment ago, cannot do so any more.
    """
    upper = Table(link.upper, table)
    moved, said = upper.position(positions.moved()), upper.position(positions.given_up())
    if said is None or said < number:
        step = {positions.given_up(): Step(said, number)}
        commit(upper, [], transactions=step, unmoved={positions.moved(): moved})
    _take_back(link, table, number, _names(link, table, number))
    commit(upper, [], transactions={positions.moved(): Step(moved, number)})


def _owed(link: Link, table: str) -> int | None:
    """The number of the move that is in both roots; None if there is none."""
    try:
        arrived = Table(link.lower, table).position(positions.arrived())
    except NeedsOperator:
        return None  # no such table yet: nothing has ever come
    moved = Table(link.upper, table).position(positions.moved())
    return arrived if arrived is not None and (moved is None or moved < arrived) else None


def _require_what_has_moved(link: Link, table: str) -> None:
    """Raises NeedsOperator if the colder root is not the one that files have moved to, as with a
    disk that is not mounted.
    """
    try:
        moved = Table(link.upper, table).position(positions.moved())
    except NeedsOperator:
        return  # nothing has come to the root above, which the link before this one tells of
    if moved is None:
        return
    try:
        arrived = Table(link.lower, table).position(positions.arrived())
    except NeedsOperator:
        arrived = None
    if arrived is None or arrived < moved:
        raise NeedsOperator(
            f"{link.lower.uri(table)} lacks what has moved there: mount it, correct"
            " storage.cold_root, or restore it"
        )


def _begin(due: DueMove) -> Moved:
    """Copies the files of a move and commits them to the colder root."""
    link, table = due.link, due.table
    _require_what_has_moved(link, table)
    create_tables(link.lower, (table,))
    _compact(link.lower, table, due.now_ms)
    schema = table_schema(table)
    lower = Table(link.lower, table, files=True)
    held = lower.position(positions.arrived())
    number = 0 if held is None else held + 1
    adds = []
    for file in due.files:
        try:
            body = link.upper.read(table, file.path)
        except FileNotFoundError:
            continue  # rewritten and vacuumed since it was planned
        link.lower.put(table, file.path, body)
        adds.append(
            NewFile(
                table,
                file.path,
                len(body),
                file.rows,
                fingerprint(schema),
                file.minimum,
                file.maximum,
            )
        )
    names = [new.path for new in adds]
    said = {"number": number, "from": link.upper.root, "at_ms": due.now_ms, "files": names}
    step = {positions.arrived(): Step(held, number)}
    rewrite(lower, adds, [], transactions=step, metadata={_KEY: said})
    # What was rewritten above while it was copied: a deletion must not wait for the handover.
    gone = _rewritten(link, table, names)
    _take_back(link, table, number, gone)
    nbytes = sum(new.size for new in adds)
    return Moved(table, link.lower.root, len(names) - len(gone), 0, len(gone), nbytes)


def _finish(due: DueMove, number: int) -> Moved:
    """Removes the files of a move above, once everybody has had time to see the copies."""
    link, table = due.link, due.table
    entry = _arrival(link, table, number)
    names = entry.metadata[_KEY]["files"]
    # Read before the copies below are looked at: see _give_up.
    upper = Table(link.upper, table, files=True)
    given_up = upper.position(positions.given_up())
    if given_up == number:
        _give_up(link, table, number)
        return Moved(table, link.lower.root, 0, 0, len(names), 0)
    gone = _rewritten(link, table, names)
    _take_back(link, table, number, gone)
    if due.now_ms - entry.metadata[_KEY]["at_ms"] < HANDOVER_MS:
        return Moved(table, link.lower.root, 0, 0, len(gone), 0)
    above, below = upper.live_files(), Table(link.lower, table, files=True).live_files()
    both = [above[name] for name in names if name in above and name in below]
    differing = [file.path for file in both if not _equal(link, table, file)]
    if differing:
        log.warning(
            "%s: the copies of %d files in %s are not equal and are given up: %s",
            *(table, len(differing), link.lower.root, ", ".join(differing[:3])),
        )
        _take_back(link, table, number, differing)
    moving = [file for file in both if file.path not in set(differing)]
    time = table_schema(table).time_column or ""
    steps = {positions.moved(): Step(upper.position(positions.moved()), number)}
    if moving:
        held = upper.position(positions.moved_until())
        until = max(file.maximum[time] for file in moving)
        until = until if held is None else max(until, held)
        steps[positions.moved_until()] = Step(held, until)
    rewrite(
        upper,
        [],
        [Removal(file.path, file.size) for file in moving],
        transactions=steps,
        metadata={_KEY: {"number": number, "to": link.lower.root}},
        unmoved={positions.given_up(): given_up},
    )
    return Moved(table, link.lower.root, 0, len(moving), len(names) - len(moving), 0)


def _equal(link: Link, table: str, file: LiveFile) -> bool:
    """Whether a file and its copy have the same rows, in number and content."""
    for root in (link.lower, link.upper):
        # One that is damaged cannot take over, nor be judged by.
        if find_unreadable(root, table, [file]):
            return False
    copy = read_rows(link.lower, table, [file], Bounds())
    rows = read_rows(link.upper, table, [file], Bounds())
    return rows.num_rows == copy.num_rows == file.rows and content_hash(rows) == content_hash(copy)


def _rewritten(link: Link, table: str, names: Collection[str]) -> list[str]:
    """Those of the files that are no longer live in the root above."""
    above = Table(link.upper, table, files=True).live_files()
    return [name for name in names if name not in above]


def _take_back(link: Link, table: str, number: int, names: Collection[str]) -> None:
    """Removes copies, if they are there, of a move that is still owed: their rows are above."""
    if not names:
        return
    if _owed(link, table) != number:
        raise Conflict(f"{table}: a rival has finished move {number}")
    lower = Table(link.lower, table, files=True)
    live = lower.live_files()
    removals = [Removal(name, live[name].size) for name in names if name in live]
    if removals:
        rewrite(lower, [], removals, metadata={_KEY: {"number": number, "taken back": len(names)}})


def _names(link: Link, table: str, number: int) -> list[str]:
    names: list[str] = _arrival(link, table, number).metadata[_KEY]["files"]
    return names


def _arrival(link: Link, table: str, number: int) -> LogEntry:
    """The commit of a move in the colder root, whose log is kept until the move is finished."""
    for version in range(Table(link.lower, table).version, -1, -1):
        (entry,) = entries(link.lower, table, version - 1, version)
        if entry.positions.get(positions.arrived()) == number and _KEY in entry.metadata:
            return entry
    raise NeedsOperator(f"{link.lower.uri(table)}: its log has no move {number}: restore it")


def _compact(root: Store, table: str, now_ms: int) -> None:
    """Merges small files that have come to a colder root by and by; no move may be under way."""
    for merge in due_merges(snapshot(root, table), now_ms):
        merge_files(root, merge)


def _out_of_reach(root: Store, err: OSError) -> TemporaryError:
    return TemporaryError(f"{root.root} is out of reach, all stays where it is: {err}")
