"""Nothing that producers have named commands a terminal."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.cli.table import table
from varve.cli.terminal import printable


@given(st.text(st.characters(codec=None)))
def test_what_is_left_neither_commands_a_terminal_nor_fails_to_be_written(text):
    shown = printable(text)

    assert shown.encode().decode() == shown
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert not [c for c in shown if unicodedata.bidirectional(c) in ("RLO", "LRO", "RLI", "PDF")]


@given(st.text())
def test_json_keeps_what_it_says(text):
    assert json.loads(printable(json.dumps(text, ensure_ascii=False))) == text


def test_names_that_people_use_stay_as_they_are():
    for text in ("Köln", "内存", "μs/op", '{a="b"}', "👩‍💻"):
        assert printable(text) == text


def test_cells_of_a_table_are_one_line_each():
    lines = list(table(("metric", "n"), [("up\x1b]0;title\x07\nx", "1")]))

    assert lines[1].split() == ["up\\u001b]0;title\\u0007\\u000ax", "1"]
    assert len(lines) == 2


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_has_seen_enough_is_no_error(lines):
    code = (
        "from varve.cli.terminal import printed\n"
        "def run():\n"
        f"    for i in range({lines}): print('x' * 100)\n"
        "    return 0\n"
        "raise SystemExit(printed(run))\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(p for p in sys.path if p)},
    )
    writer.stdout.close()

    _, said = writer.communicate(timeout=60)

    assert (writer.returncode, said) == (0, b"")
