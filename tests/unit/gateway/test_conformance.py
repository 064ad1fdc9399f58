"""The judge of collection, where it lies beside the checkout, finds nothing wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PLACES = (os.environ.get("SHARED", ""), ROOT.parent / "shared")
JUDGE = next((p for place in PLACES if (p := Path(place) / "wiretest" / "run.py").is_file()), None)


@pytest.mark.skipif(JUDGE is None, reason="no ../shared/wiretest")
def test_every_case_passes():
    adapter = ["--adapter", "varve.gateway.conformance:Adapter"]

    judged = subprocess.run(
        [sys.executable, str(JUDGE), *adapter],
        env=os.environ | {"PYTHONPATH": str(ROOT / "pipelines")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert judged.returncode == 0, judged.stdout + judged.stderr
