"""`varve reset positions`: put back what a clock that was ahead has left in the future."""

from __future__ import annotations

import contextlib

from varve.model.clock import SystemClock, synchronised_ms, utc_text
from varve.services.home import Home
from varve.services.position_reset import positions_ahead, put_back
from varve.services.progress import table_store
from varve.settings import Settings

EXPLANATION = """\
No window closes before the time of these positions, and whatever comes until then is repaired as
late. Putting them back loses nothing: windows that were closed too early are computed again when
their time comes. Ingest and rollups must not run meanwhile, and this machine's clock must be
right."""


def run(settings: Settings, *, yes: bool) -> int:
    """0 if nothing is ahead or all was put back, 1 if --yes is missing."""
    home = Home.at(settings.home)
    store = table_store(settings)
    now_ms = SystemClock().now_ms()
    with home.held() if home.path.is_dir() else contextlib.nullcontext():
        ahead = positions_ahead(store, now_ms)
        if not ahead:
            print(f"no position of {store.root} lies in the future of {utc_text(now_ms)}")
            return 0
        kept = "kept by a time server" if synchronised_ms() else "no time server vouches for it"
        print(f"{store.root}: positions in the future; now it is {utc_text(now_ms)} ({kept})")
        for position in ahead:
            print(
                f"  {position.table:<10} {position.name:<18} {utc_text(position.at_ms)}"
                f"  ->  {utc_text(position.back_to_ms)}"
            )
        print(EXPLANATION)
        if not yes:
            print("nothing was changed: say --yes to put them back")
            return 1
        put_back(store, ahead)
        print(f"put back {len(ahead)} positions")
    return 0
