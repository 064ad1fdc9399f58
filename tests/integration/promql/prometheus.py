"""A real Prometheus as an oracle: started on a free port, filled by remote write, asked by HTTP.

What is installed may be as old as 2.42 (Debian 12), so who asks has to keep to what has not
changed since.
"""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

STALE_BITS = 0x7FF0000000000002
_CONFIG = "global: {scrape_interval: 1h}\n"
_READY_S = 60

Labels = tuple[tuple[str, str], ...]
Points = Sequence[tuple[int, float | None]]


def missing() -> str:
    """Why there can be no Prometheus here, or ""."""
    return "" if shutil.which("prometheus") else "no prometheus on PATH (Debian: prometheus)"


@contextmanager
def prometheus(
    folder: Path, data: Mapping[Labels, Points], config: str = ""
) -> Iterator[httpx.Client]:
    """A client of a Prometheus that holds `data`; None is a stale marker. config: more of its
    configuration, as YAML.
    """
    (folder / "prometheus.yml").write_text(_CONFIG + config)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
        "--storage.tsdb.retention.time=100y",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            _wait_until_ready(client, process, folder / "log")
            write(client, data)
            yield client
    finally:
        process.terminate()
        process.wait(30)


def write(client: httpx.Client, data: Mapping[Labels, Points]) -> None:
    """Gives a Prometheus samples."""
    response = client.post(
        "/api/v1/write",
        content=_snappy(_write_request(data)),
        headers={"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"},
    )
    response.raise_for_status()


def _wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"prometheus is not ready: {log.read_text()[-2000:]}")
        try:
            if client.get("/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)  # between looks, not instead of one


def _write_request(data: Mapping[Labels, Points]) -> bytes:
    """prometheus.WriteRequest of the remote-write protocol, version 1."""
    return b"".join(_field(1, _time_series(labels, points)) for labels, points in data.items())


def _time_series(labels: Labels, points: Points) -> bytes:
    parts = [
        _field(1, _field(1, name.encode()) + _field(2, value.encode()))
        for name, value in sorted(labels)
    ]
    for ts, value in points:
        bits = struct.pack("<Q", STALE_BITS) if value is None else struct.pack("<d", value)
        parts.append(_field(2, b"\x09" + bits + b"\x10" + _varint(ts)))
    return b"".join(parts)


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _snappy(data: bytes) -> bytes:
    """The block format, literals only."""
    out = bytearray(_varint(len(data)))
    for at in range(0, len(data), 65_536):
        piece = data[at : at + 65_536]
        out += bytes([61 << 2]) + (len(piece) - 1).to_bytes(2, "little") + piece
    return bytes(out)
