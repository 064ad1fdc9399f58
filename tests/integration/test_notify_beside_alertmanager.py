"""The same requests to a real Alertmanager: what is answered, and what refused."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from tests.benchmarks.diff_notify import answering, differs

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus-alertmanager") is None,
    reason="needs Debian's prometheus-alertmanager",
)


def test_what_is_refused_and_how_it_is_answered_are_alertmanagers(capsys):
    differ = asyncio.run(differs(answering, within_s=0.0))

    assert not differ, capsys.readouterr().out
