"""Which version of the tables answers a request: the newest, one from before, or one to come."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from varve.api.parameters import Parameters, invalid
from varve.promql.errors import QueryTimeoutError
from varve.query.evaluation import Options
from varve.query.provenance import Provenance
from varve.query.snapshots import GoneError, Snapshots
from varve.query.times import parse_time_ms
from varve.query.view import View


def view_of(given: Parameters, view: View, options: Options, snapshots: Snapshots | None) -> View:
    """The view that `as_of` or `at_least` asks for, else `view`, the newest.

    as_of is a token of an answer's provenance, or a time; at_least is a token, for whose versions
    it waits until the deadline of the options. Raises BadRequest, GoneError past the horizon, and
    QueryTimeoutError.
    """
    as_of, at_least = given.get("as_of"), given.get("at_least")
    if as_of and at_least:
        raise invalid("at_least", "as_of names one snapshot already")
    if at_least:
        return _wait_for(_versions("at_least", at_least), view, options)
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


def _wait_for(wanted: Mapping[str, int], view: View, options: Options) -> View:
    newer: Callable[[View], View] = options.newer_view or (lambda known: known)
    while True:
        held = view.provenance.versions
        if all(held.get(table, -1) >= version for table, version in wanted.items()):
            return view
        options.check_running()
        following = newer(view)
        if following is view and options.newer_view is None:
            raise QueryTimeoutError
        view = following
