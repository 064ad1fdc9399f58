"""Which version of the tables answers a request: the newest, one from before, or one to come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from varve.api.parameters import Parameters, invalid
from varve.promql.errors import QueryTimeoutError
from varve.query.provenance import Provenance
from varve.query.snapshots import GoneError, Snapshots
from varve.query.times import parse_time_ms
from varve.query.view import View
from varve.storage.store import COLDER

# How soon one who waits for a view notices that nobody waits for them any more.
_CHECK_S = 0.1
# Between two looks that found nothing new, where a look does not wait by itself.
_REST_S = 0.02


def view_of(given: Parameters, view: View, snapshots: Snapshots | None) -> View:
    """The view that `as_of` asks for, else `view`, the newest.

    as_of is a token of an answer's provenance, or a time. Raises BadRequest, and GoneError past the
    horizon.
    """
    as_of = given.get("as_of")
    if not as_of:
        return view
    if snapshots is None:
        raise GoneError("this service keeps no earlier snapshots")
    try:
        time_ms = parse_time_ms(as_of)
    except ValueError:
        return snapshots.at(_versions("as_of", as_of))
    return snapshots.before(time_ms)


def _versions(name: str, token: str) -> Mapping[str, int]:
    try:
        return Provenance.versions_of(token)
    except ValueError as err:
        text = f"{err}: take it from provenance.snapshot of an answer"
        raise invalid(name, text + (", or give a time" if name == "as_of" else "")) from err


class ViewsToCome:
    """Waits for views, with one thread for all who wait. For one event loop."""

    def __init__(
        self, newest: Callable[[], View | None], newer: Callable[[View], View] | None
    ) -> None:
        """newer: as of Options.newer_view; None where no newer view comes."""
        self._newest = newest
        self._newer = newer
        self._looking: asyncio.Task[View] | None = None

    async def reach(self, token: str, view: View, check: Callable[[], Awaitable[None]]) -> View:
        """The first view, from `view` on, that has the versions of a snapshot. check: raises when
        nobody waits any more. Raises BadRequest if the token is none, QueryTimeoutError if no newer
        view comes.
        """
        wanted = _versions("at_least", token)
        while not _has(view, wanted):
            if self._newer is None:
                raise QueryTimeoutError
            await check()
            newest = self._newest()
            if newest is None or newest is view:
                await self._look(self._newer, view)
                newest = self._newest()
            view = newest or view
        return view

    async def _look(self, newer: Callable[[View], View], view: View) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(asyncio.to_thread(newer, view))
        done, _ = await asyncio.wait({self._looking}, timeout=_CHECK_S)
        if done and self._looking.result() is view:
            await asyncio.sleep(_REST_S)


def _has(view: View, wanted: Mapping[str, int]) -> bool:
    # What moves to a colder root is nothing new.
    held = view.provenance.versions
    own = {table: version for table, version in wanted.items() if not table.startswith(COLDER)}
    return all(held.get(table, -1) >= version for table, version in own.items())
