"""Upstream's acceptance scripts, judged by shared/promqltest if that is beside the checkout.

VARVE_SHARED names the folder that holds promqltest if it is elsewhere.
"""

import os
import sys
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("VARVE_SHARED", Path(__file__).parents[3] / "shared"))
JUDGE = SHARED / "promqltest"
SCRIPTS = sorted(JUDGE.glob("testdata/*.test")) + sorted(JUDGE.glob("*.test"))


@pytest.fixture(scope="module")
def run_script():
    sys.path.insert(0, str(SHARED))
    try:
        from promqltest.evaluate import run_script
    finally:
        sys.path.remove(str(SHARED))
    return run_script


@pytest.fixture
def adapter(run_script):  # the adapter imports the judge's types
    from varve.promql.conformance import Adapter

    return Adapter()


@pytest.mark.skipif(not SCRIPTS, reason=f"no scripts under {JUDGE}")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_evaluation_passes(script, run_script, adapter):
    outcomes = list(run_script(script.read_text(encoding="utf-8"), adapter))

    failed = [
        f"{script.name}:{one.line}: {one.expr}: {one.reason}"
        for one in outcomes
        if one.status != "passed" or one.pin_at_skipped
    ]
    assert outcomes
    assert not failed
