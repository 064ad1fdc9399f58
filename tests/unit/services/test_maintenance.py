import shutil

from tests.churn import Churn
from tests.line import Line
from varve.model.identity import define
from varve.model.window import HOUR_MS
from varve.services.maintenance import Maintenance
from varve.services.retention import retention_reader
from varve.settings import Settings
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.telemetry.metrics import MaintenanceMetrics
from varve.telemetry.registry import Telemetry

BEGIN = 1_795_392_000_000
RETENTION = retention_reader(Settings())


def value(telemetry, name, **labels):
    return telemetry.registry.get_sample_value(name, labels) or 0.0


def filled(root):
    line = Line(str(root), BEGIN + 1)
    for n in range(8):
        line.ingest(b'{"metric":"m","value":1,"timestamp":%d}' % (BEGIN + 1_000 + n))
    line.clock.advance(24 * HOUR_MS)
    return line


def test_a_look_merges_what_is_due_and_counts_it(tmp_path):
    line, telemetry = filled(tmp_path), Telemetry()
    work = Maintenance(line.store, MaintenanceMetrics(telemetry), RETENTION, clock=line.clock)

    work.look()

    assert len(snapshot(line.store, "samples").files) == 1
    assert snapshot(line.store, "samples").scan(Bounds()).num_rows == 8
    assert value(telemetry, "varve_maintenance_merged_files_total", table="samples") == 8
    assert value(telemetry, "varve_maintenance_written_rows_total", table="samples") == 8


def test_a_table_that_fails_is_counted_and_mended_by_a_later_look(tmp_path):
    line, telemetry = filled(tmp_path), Telemetry()
    work = Maintenance(line.store, MaintenanceMetrics(telemetry), RETENTION, clock=line.clock)
    some = next((tmp_path / "samples").glob("*.parquet"))
    away = tmp_path / "away.parquet"
    shutil.move(some, away)

    work.look()

    failures = {"table": "samples", "work": "compaction"}
    assert value(telemetry, "varve_maintenance_failures_total", **failures) == 1
    assert len(snapshot(line.store, "samples").files) == 8

    shutil.move(away, some)
    work.look()

    assert len(snapshot(line.store, "samples").files) == 1
    assert value(telemetry, "varve_maintenance_failures_total", **failures) == 1


def test_once_an_hour_it_deletes_what_is_older_than_its_retention(tmp_path):
    line, telemetry = Line(str(tmp_path), BEGIN + 1), Telemetry()
    for _ in range(20):
        line.ingest(b'{"metric":"m","value":1,"timestamp":%d}' % line.clock.now_ms())
        line.clock.advance(24 * HOUR_MS)
    line.ingest()
    work = Maintenance(line.store, MaintenanceMetrics(telemetry), RETENTION, clock=line.clock)
    rows = {"table": "samples"}

    work.look()
    assert value(telemetry, "varve_maintenance_expired_rows_total", **rows) == 0

    line.roll_up(rest_ms=HOUR_MS)
    work.look()

    assert value(telemetry, "varve_maintenance_expired_rows_total", **rows) == 5
    assert snapshot(line.store, "samples").scan(Bounds()).num_rows == 15


def test_once_a_day_it_trims_series_without_a_row(tmp_path):
    churn, telemetry = Churn(tmp_path), Telemetry()
    pods = [define("up", {"pod": str(n)}) for n in range(4)]
    churn.drivers[0].send(pods)
    churn.remove("samples", [s.series_id for s in pods[:2]])
    work = Maintenance(churn.store, MaintenanceMetrics(telemetry), RETENTION, clock=churn.clock)

    for gone in (0, 2, 2):
        work.look()
        assert value(telemetry, "varve_maintenance_trimmed_series_total") == gone
        churn.pass_time(25 * HOUR_MS)

    assert churn.ids_in("series") == {s.series_id for s in pods[2:]}
