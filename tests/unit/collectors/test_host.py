import errno
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from varve.collectors.cpu import STEP_BACK_S, Cpu
from varve.collectors.devices import diskstats, netclass, netdev
from varve.collectors.filesystems import Filesystems
from varve.collectors.host import HostCollector, sources_of_this_machine
from varve.collectors.readings import Reading, Unreadable, gauge

TEMPERATURE = gauge("temperature_celsius", "celsius", "How warm.")


def _source(*rooms):
    return lambda: iter([Reading(TEMPERATURE, {"room": r}, 20.0) for r in rooms])


def _values(samples, metric):
    return {dict(s.series.tags).get("room"): s.value for s in samples if s.series.metric == metric}


def test_this_machine_is_measured_under_node_exporters_names():
    samples = HostCollector("here").scrape(1_000)

    series = {s.series for s in samples}
    assert len(series) == len(samples)
    assert {s.ts_ms for s in samples} == {1_000}
    assert {(dict(s.tags)["job"], dict(s.tags)["instance"]) for s in series} == {("node", "here")}
    assert all(s.help and s.type != "unknown" for s in series)
    kinds = {s.metric: (s.type, s.unit) for s in series}
    assert kinds["node_cpu_seconds_total"] == ("counter", "seconds")
    assert kinds["node_memory_MemAvailable_bytes"] == ("gauge", "bytes")
    assert kinds["node_network_receive_bytes_total"] == ("counter", "bytes")
    assert kinds["up"] == ("gauge", "")
    assert all(s.type == "counter" for s in series if s.metric.endswith("_total"))
    assert all(s.value == 1.0 for s in samples if s.series.metric.endswith("collector_success"))
    clock = next(s.value for s in samples if s.series.metric == "node_time_seconds")
    assert clock == pytest.approx(time.time(), abs=5)


def test_cpu_time_grows():
    def idle(samples):
        return sum(
            s.value
            for s in samples
            if s.series.metric == "node_cpu_seconds_total" and dict(s.series.tags)["mode"] == "idle"
        )

    collector = HostCollector("here")

    assert 0 < idle(collector.scrape(1)) <= idle(collector.scrape(2))


def test_a_series_that_is_gone_is_marked_once():
    sources = {"t": _source("hall", "loft")}
    collector = HostCollector("here", sources)
    collector.scrape(1)
    sources["t"] = _source("hall")

    assert _values(collector.scrape(2), "temperature_celsius") == {"hall": 20.0, "loft": None}
    assert _values(collector.scrape(3), "temperature_celsius") == {"hall": 20.0}


@pytest.mark.parametrize(
    "error",
    [
        OSError("sensor unplugged"),
        ValueError("not sure how to interpret line"),
        UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"),
        KeyError("MemTotal"),
        RuntimeError("whatever else"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_source_that_fails_says_so_its_series_end_and_the_others_are_sent(error, caplog):
    def broken():
        yield Reading(TEMPERATURE, {"room": "hall"}, 20.0)
        raise error

    sources = {"t": _source("hall"), "u": _source("loft")}
    collector = HostCollector("here", sources)
    collector.scrape(1)
    sources["t"] = broken
    for ts in (2, 3):
        samples = collector.scrape(ts)

        assert _values(samples, "temperature_celsius")["loft"] == 20.0
        success = {
            dict(s.series.tags)["collector"]: s.value
            for s in samples
            if s.series.metric == "node_scrape_collector_success"
        }
        assert success == {"t": 0.0, "u": 1.0}
        if ts == 2:
            assert _values(samples, "temperature_celsius")["hall"] is None
    assert [m for m in caplog.messages if "cannot measure t" in m] == caplog.messages
    assert len(caplog.messages) == 1


def test_a_part_that_cannot_be_read_is_missing_and_counted(caplog):
    counted = []
    parts = {"t": lambda: [Unreadable("loft", "too hot"), *_source("hall")()]}
    collector = HostCollector("here", parts, lambda *seen: counted.append(seen))

    samples = collector.scrape(1)
    parts["t"] = _source("hall", "loft")
    collector.scrape(2)

    assert _values(samples, "temperature_celsius") == {"hall": 20.0}
    assert _values(samples, "node_scrape_collector_success") == {None: 1.0}
    assert counted == [("t", 1), ("t", 0)]
    assert caplog.messages == ["cannot measure t: loft: too hot"]


def test_names_that_are_no_utf_8_are_sent_and_stay_two():
    names = [os.fsdecode(b"k\xf6ln"), os.fsdecode(b"k\xe4ln"), "köln"]

    samples = HostCollector("here", {"t": _source(*names)}).scrape(1)

    assert _values(samples, "temperature_celsius") == {
        "k\N{REPLACEMENT CHARACTER}F6ln": 20.0,
        "k\N{REPLACEMENT CHARACTER}E4ln": 20.0,
        "köln": 20.0,
    }
    assert len({s.series.series_id for s in samples if s.series.metric == TEMPERATURE.metric}) == 3


def test_the_end_marks_every_living_series_and_only_once():
    collector = HostCollector("here", {"t": _source("hall")})
    living = {s.series for s in collector.scrape(1)}

    ended = collector.end(5)

    assert {s.series for s in ended} == living
    assert {(s.ts_ms, s.value) for s in ended} == {(5, None)}
    assert collector.end(6) == []


STAT = """cpu  300 0 0 3000 30 0 0 0 0 0
cpu0 100 2 3 {idle} {iowait} 6 7 8 9 10
cpu2 200 0 0 2000 20 0 0 0 0 0
intr 5
btime 1795000000
"""


def _cpu(readings, cpu, mode):
    (value,) = (r.value for r in readings if r.labels == {"cpu": cpu, "mode": mode})
    return value


def _write(proc, idle, iowait):
    (proc / "stat").write_text(STAT.format(idle=idle, iowait=iowait))


def test_cpus_keep_the_kernels_numbers_when_one_is_offline(tmp_path):
    _write(tmp_path, 1_000, 10)

    readings = list(Cpu(tmp_path)())

    assert {r.labels["cpu"] for r in readings} == {"0", "2"}
    assert _cpu([r for r in readings if "guest" not in r.family.metric], "2", "user") == 2.0
    assert _cpu([r for r in readings if "guest" in r.family.metric], "0", "nice") == 0.1
    assert {r.labels["mode"] for r in readings if r.labels["cpu"] == "0"} >= {"steal", "softirq"}


def test_a_counter_of_cpu_time_never_steps_back_by_a_tick(tmp_path):
    cpu, idle, iowait = Cpu(tmp_path), [], []
    for ticks in (1_000, 999, 998, 1_005, 1_004):
        _write(tmp_path, ticks, ticks - 900)
        readings = list(cpu())
        idle.append(_cpu(readings, "0", "idle"))
        iowait.append(_cpu(readings, "0", "iowait"))

    assert idle == [10.0, 10.0, 10.0, 10.05, 10.05]
    assert iowait == [1.0, 1.0, 1.0, 1.05, 1.05]


def test_a_cpu_that_was_taken_away_and_brought_back_begins_anew(tmp_path):
    cpu = Cpu(tmp_path)
    _write(tmp_path, 100_000, 10)
    list(cpu())
    _write(tmp_path, 100_000 - int(STEP_BACK_S * 100) - 1, 10)

    assert _cpu(list(cpu()), "0", "idle") == pytest.approx(1_000 - STEP_BACK_S - 0.01)


def test_cpu_lines_of_old_kernels_and_odd_ones(tmp_path):
    (tmp_path / "stat").write_text(
        "cpu0 1 2 3 4 5 6 7\ncpu1 1 2 x 4\ncpu3 100 0 0 0 0 0 0 0 0 0 9\n"
    )

    parts = list(Cpu(tmp_path)())

    assert [p.what for p in parts if isinstance(p, Unreadable)] == ["cpu1"]
    readings = [p for p in parts if isinstance(p, Reading)]
    assert len([r for r in readings if r.labels["cpu"] == "0"]) == 7
    assert len([r for r in readings if r.labels["cpu"] == "3"]) == 10


DISKS = b"""   8       0 sda 10 11 12 13 14 15 16 17 0 18 19
   8       1 sda1 1 1 1 1 1 1 1 1 0 1 1
 253       0 dm-0 20 21 22 23 24 25 26 27 0 28 29 1 2 3 4
 259       0 nvme0n1 30 31 32 33 34 35 36 37 0 38 39 1 2 3 4 5 6
   8      16 sdb 40 41 42 43 44 45 46 47 0 48 49 1 2 3
   8      32 sdc 50 51 52 53 54 55 56 57
   8      48 sdd 1 2 3 4
   8      64 sde 60 61 x 63 64 65 66 67 0 68 69
   8      80 sd\xff 70 71 72 73 74 75 76 77 0 78 79
odd
"""


def test_an_odd_line_of_a_disk_costs_that_disk_alone(tmp_path):
    (tmp_path / "diskstats").write_bytes(DISKS)

    parts = list(diskstats(tmp_path))

    missing = {p.what: p.why for p in parts if isinstance(p, Unreadable)}
    assert missing.keys() == {"sdb", "sdc", "sdd", "sde", "odd"}
    assert missing["sdb"] == "its line has 17 fields"
    assert missing["sdc"] == "its line has 11 fields"
    reads = {
        p.labels["device"]: p.value
        for p in parts
        if isinstance(p, Reading) and p.family.metric == "node_disk_reads_completed_total"
    }
    assert reads == {"sda": 10, "dm-0": 20, "nvme0n1": 30, "sd\udcff": 70}
    of_sda = {
        p.family.metric: p.value
        for p in parts
        if isinstance(p, Reading) and p.labels["device"] == "sda"
    }
    assert of_sda["node_disk_read_bytes_total"] == 12 * 512
    assert of_sda["node_disk_read_time_seconds_total"] == 0.013
    assert of_sda["node_disk_written_bytes_total"] == 16 * 512
    assert of_sda["node_disk_io_time_seconds_total"] == 0.018


def test_an_odd_line_of_an_interface_costs_that_interface_alone(tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "dev").write_bytes(
        b"Inter-| Receive | Transmit\n face |bytes ...\n"
        b"    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"
        b"eth0:1:11 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"
        b"  eth1: 1 2 3\n"
        b"  e\xff: 21 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"
    )

    parts = list(netdev(tmp_path))

    received = {
        p.labels["device"]: p.value
        for p in parts
        if isinstance(p, Reading) and p.family.metric == "node_network_receive_bytes_total"
    }
    assert received == {"lo": 1, "eth0:1": 11, "e\udcff": 21}
    assert [p.what for p in parts if isinstance(p, Unreadable)] == ["eth1"]


def test_an_interface_that_goes_while_it_is_read_costs_nothing_else(tmp_path):
    for name, state in (("eth0", "up"), ("lo", "unknown"), ("eth1", "down"), ("gone", "up")):
        folder = tmp_path / "class" / "net" / name
        folder.mkdir(parents=True)
        (folder / "operstate").write_text(f"{state}\n")
        (folder / "mtu").write_text("1500\n")
    (tmp_path / "class" / "net" / "gone" / "mtu").unlink()
    (tmp_path / "class" / "net" / "bonding_masters").write_text("")

    parts = list(netclass(tmp_path))

    up = {
        p.labels["device"]: p.value
        for p in parts
        if isinstance(p, Reading) and p.family.metric == "node_network_up"
    }
    assert up == {"eth0": 1.0, "lo": 1.0, "eth1": 0.0}
    assert [p.what for p in parts if isinstance(p, Unreadable)] == ["gone"]


@pytest.fixture
def mounts(tmp_path):
    """Three file systems, two of them with names that are no UTF-8."""
    points = [os.fsencode(tmp_path) + b"/" + name for name in (b"a\xff", b"a\xfe", b"plain")]
    made = []
    for point in points:
        Path(os.fsdecode(point)).mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "varve-test", point]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("cannot mount a file system (needs root)")
        made.append(point)
    yield [os.fsdecode(point) for point in points]
    for point in made:
        subprocess.run(["umount", "--lazy", point], check=True)


def _sizes(samples, tmp_path):
    return {
        dict(s.series.tags)["mountpoint"].removeprefix(f"{tmp_path}/"): s.value
        for s in samples
        if s.series.metric == "node_filesystem_size_bytes"
        and dict(s.series.tags)["mountpoint"].startswith(str(tmp_path))
    }


def test_mounts_whose_names_are_no_utf_8_are_measured_and_stay_two(mounts, tmp_path):
    samples = HostCollector("here", {"filesystem": Filesystems()}).scrape(1)

    assert _sizes(samples, tmp_path) == {
        "a\N{REPLACEMENT CHARACTER}FF": 2**20,
        "a\N{REPLACEMENT CHARACTER}FE": 2**20,
        "plain": 2**20,
    }


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOTCONN, errno.ESTALE, errno.EACCES])
def test_a_mount_that_fails_is_left_out_and_says_so(mounts, tmp_path, error):
    def statfs(point):
        if point == mounts[2]:
            raise OSError(error, os.strerror(error))
        return os.statvfs(point)

    samples = HostCollector("here", {"filesystem": Filesystems(statfs)}).scrape(1)

    assert _sizes(samples, tmp_path).keys() == {"a\ufffdFF", "a\ufffdFE"}
    errors = {
        dict(s.series.tags)["mountpoint"]: s.value
        for s in samples
        if s.series.metric == "node_filesystem_device_error"
    }
    assert errors[mounts[2]] == 1.0
    assert errors[str(tmp_path / "a\ufffdFF")] == 0.0


def test_mounts_that_hang_are_left_out_and_the_rest_comes_in_time(mounts, tmp_path):
    release, asked = threading.Event(), []

    def statfs(point):
        asked.append(point)
        if point in mounts[:2]:
            release.wait()
        return os.statvfs(point)

    source = Filesystems(statfs, deadline_s=0.3)
    collector = HostCollector("here", {"filesystem": source})
    began = time.monotonic()
    assert _sizes(collector.scrape(1), tmp_path).keys() == {"plain"}
    assert time.monotonic() - began < 5

    # They are not asked again while they hang: there is one thread for each, and no more.
    threads = threading.active_count()
    for ts in range(2, 6):
        assert _sizes(collector.scrape(ts), tmp_path).keys() == {"plain"}
    assert threading.active_count() == threads
    assert [asked.count(point) for point in mounts] == [1, 1, 5]

    release.set()
    deadline = time.monotonic() + 10
    while len(_sizes(collector.scrape(6), tmp_path)) < 3:
        assert time.monotonic() < deadline


def test_every_source_of_node_exporter_that_is_taken_is_there():
    assert list(sources_of_this_machine()) == [
        *("cpu", "meminfo", "loadavg", "filesystem", "diskstats", "netdev", "netclass", "stat"),
        *("filefd", "time", "uname"),
    ]
