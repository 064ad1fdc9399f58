"""`varve rollup`: status and verify over tables that no process serves."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tests.unit.rollups.simulation import START, Simulation
from varve.cli.main import main
from varve.model.window import MINUTE_MS
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, Step, commit, rewrite
from varve.storage.files import write_file
from varve.storage.snapshot import snapshot
from varve.storage.table import Table


@pytest.fixture
def simulation(tmp_path):
    made = Simulation(tmp_path / "tables")
    made.put([(1, START + 10_000 * k, float(k)) for k in range(60)])
    made.advance(11 * MINUTE_MS)
    made.settle()
    return made


def rollup(simulation, *arguments):
    home = str(simulation.store.root).removesuffix("/tables")
    return main(["rollup", *arguments, "--home", home])


def test_status_names_what_is_complete_and_where_repairs_are_pending(simulation, capsys):
    simulation.put([(1, START + 5, 1.0)])

    assert rollup(simulation, "status") == 0

    shown = capsys.readouterr().out
    assert "input bulk" in shown
    assert "tier 1m" in shown
    assert "1 late windows in 1 ranges" in shown


def test_verify_finds_no_difference_in_what_the_job_wrote(simulation, capsys):
    assert rollup(simulation, "verify", "--from", "2020-01-01", "--to", "2030-01-01") == 0

    assert "tier 1m   11 rows compared, 0 differences" in capsys.readouterr().out


def test_verify_prints_a_changed_row_and_fails(simulation, capsys):
    table = Table(simulation.store, "rollup_1m")
    rows = snapshot(simulation.store, "rollup_1m").scan(Bounds()).sort_by("window_end").slice(3, 1)
    wrong = rows.set_column(
        rows.schema.get_field_index("sum"), "sum", [[rows["sum"][0].as_py() + 1]]
    ).set_column(rows.schema.get_field_index("revision"), "revision", [[10**6]])
    file = write_file(simulation.store, "rollup_1m", wrong)
    commit(table, [file], transactions={"sabotage": Step(None, 1)})

    assert rollup(simulation, "verify", "--from", "2020-01-01", "--to", "2030-01-01") == 1

    shown = capsys.readouterr().out
    assert f"1m series 1 window_end {rows['window_end'][0]} sum: stored" in shown


def test_verify_tells_rows_that_are_missing_from_rows_that_should_not_be(simulation, capsys):
    table = Table(simulation.store, "rollup_1m", files=True)
    rows = snapshot(simulation.store, "rollup_1m").scan(Bounds()).sort_by("window_end")
    removed = [Removal(f.path, f.size, rows_disappear=True) for f in table.live_files().values()]
    stranger = rows.slice(5, 1).set_column(0, "series_id", [[7]]).cast(rows.schema)
    kept = pa.concat_tables([rows.slice(0, 3), rows.slice(5), stranger])
    rewrite(table, [write_file(simulation.store, "rollup_1m", kept)], removed)

    assert rollup(simulation, "verify", "--from", "2020-01-01", "--to", "2030-01-01") == 1

    shown = capsys.readouterr().out
    ends = rows["window_end"].to_pylist()
    for end in ends[3:5]:
        assert f"1m series 1 window_end {end} row: stored None, from raw 'a row'" in shown
    assert f"1m series 7 window_end {ends[5]} row: stored 'a row', from raw None" in shown
    assert "9 rows compared, 3 differences" in shown


def test_a_range_that_is_none_is_refused(simulation, capsys):
    assert rollup(simulation, "verify", "--from", "1h", "--to", "2h") == 1
    for text in ("yesterday", "", "²h", "1e9s", "9999999999d", "-5m", "2026-13-01", "h"):
        assert rollup(simulation, "verify", f"--from={text}") == 1
        said = capsys.readouterr().err
        assert "write 2026-11-22T09:00:00Z" in said
        assert said.count("\n") == (2 if text == "yesterday" else 1)


@pytest.mark.parametrize(
    ("table", "harm", "words"),
    [
        ("samples", Path.unlink, "is missing"),
        ("samples", lambda path: path.write_bytes(path.read_bytes()[:-9]), "bytes instead of"),
        ("rollup_5m", Path.unlink, "is missing"),
    ],
)
def test_a_file_that_verify_cannot_read_is_named_with_what_to_do(
    simulation, capsys, table, harm, words
):
    lost, *_ = snapshot(simulation.store, table).files
    harm(Path(simulation.store.uri(table)) / lost.path)

    assert rollup(simulation, "verify", "--from", "2020-01-01", "--to", "2030-01-01") == 1

    said = capsys.readouterr()
    assert f"{table}/{lost.path} " in said.err
    assert words in said.err
    assert "put it back, or accept its loss" in said.err
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("body", [b"{", b"[1]", b'{"add": {"path": "x"}}', b"\xff", b'{"txn": 5}'])
def test_a_damaged_log_is_one_line_that_names_it(simulation, capsys, body):
    version = Table(simulation.store, "samples").version
    name = f"_delta_log/{version:020}.json"
    Path(simulation.store.uri("samples"), name).write_bytes(body)

    for command in (["rollup", "status"], ["sql", "SELECT count(*) FROM samples"]):
        home = str(simulation.store.root).removesuffix("/tables")
        assert main([*command, "--home", home]) == 1
        said = capsys.readouterr().err
        assert f"samples/{name} is damaged: restore it" in said
        assert len(said.splitlines()) == 1
