"""Several processes that are one gateway: they share its port, and a supervisor starts them again.

Each has its own table of series, lanes and spool (SO_REUSEPORT spreads connections over them), so
one that is killed takes nothing acknowledged with it: what it has spooled is sent when it starts
again. A series' identity and partition follow from its labels, whoever takes its samples.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from varve.api.server import tcp_socket
from varve.gateway.spool import adopt
from varve.model.errors import NeedsOperator, TemporaryError
from varve.services.gateway_siblings import client_of
from varve.services.logs import configure_for
from varve.services.ports import require_free
from varve.services.query_supervision import Start, supervise
from varve.services.status import ComponentStatus
from varve.services.supervised import NEEDS_OPERATOR
from varve.settings import Settings

_PR_SET_PDEATHSIG: Final = 1
_PARTITIONS: Final = "partitions.json"
# How long a process may take to be up, and to end in order beyond the time of an acknowledgement.
_START_S, _END_S = 120.0, 15.0

log = logging.getLogger("varve.gateway.processes")

Work = Callable[[Settings, int, Path], None]
"""What a process does: its settings, its number, the folder of the processes' sockets. It serves
until SIGTERM."""


def spool_of(root: Path, number: int) -> Path:
    """The folder of a process's spool. The first one's is that of a gateway with one process."""
    return root / f"process-{number}" if number else root


def adopt_spools(root: Path, processes: int) -> None:
    """Moves what processes have spooled that are no more to the spool of the first. Called before
    any is started.
    """
    for left in sorted(root.glob("process-*")):
        number = left.name.removeprefix("process-")
        if not number.isdecimal() or int(number) < processes:
            continue
        for lane in left.iterdir():
            if lane.is_dir() and (moved := adopt(lane, root / lane.name)):
                log.info("%d segments of %s go on in %s", moved, lane, root / lane.name)


def run(settings: Settings, root: Path, work: Work, status: ComponentStatus) -> int:
    """Runs `gateway.processes` of them until SIGTERM or SIGINT, and returns 0. root: of the spools.

    Raises NeedsOperator if the port is taken or a process says so; TemporaryError if all fail.
    """
    gateway = settings.gateway
    stopping = threading.Event()
    running: dict[int, _Process] = {}
    with (
        held_port(gateway.host, gateway.port, "gateway.port"),
        tempfile.TemporaryDirectory(prefix="varve-gateway-") as sockets,
    ):
        url = gateway.url()
        detail = {"url": url, "metrics": f"{url}/metrics", "processes": gateway.processes}
        status.update(state="starting", detail=detail)

        def stop(*_: object) -> None:
            stopping.set()
            for one in running.values():
                one.ask_to_stop()

        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, stop)

        def started(number: int) -> Callable[[Path], _Process]:
            def start(folder: Path) -> _Process:
                _know_partitions(root, number)
                running[number] = _Process(settings, number, folder, work)
                return running[number]

            return start

        watch = _Watch(status, gateway.processes)
        supervise(
            Path(sockets),
            [Start(f"process {n} of the gateway", started(n)) for n in range(gateway.processes)],
            stopping,
            on_change=watch.failed,
            on_look=watch.look,
        )
    return 0


@contextmanager
def held_port(host: str, port: int, setting: str) -> Iterator[None]:
    """Keeps a port for sockets of `shared_port`. NeedsOperator if it is taken."""
    require_free(host, port, setting)
    with shared_port(host, port):  # does not listen, so no connection comes here
        yield


@contextmanager
def shared_port(host: str, port: int) -> Iterator[socket.socket]:
    """A socket bound to a port that several processes of this user listen on."""
    with tcp_socket(host) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        yield listener


class _Process:
    """One of the processes."""

    def __init__(self, settings: Settings, number: int, folder: Path, work: Work) -> None:
        context = multiprocessing.get_context("spawn")
        arguments = (settings, number, folder, work, os.getpid())
        self.number = number
        self.started_s = time.monotonic()
        self.client = client_of(folder, number)
        self._end_s = settings.gateway.ack_s + _END_S
        self._process = context.Process(target=_work, args=arguments, name=f"gateway-{number}")
        self._process.start()

    def raise_failure(self) -> None:
        """Raises what has ended it, if anything has."""
        if self._process.is_alive():
            return
        status = self._process.exitcode
        if status == NEEDS_OPERATOR:
            raise NeedsOperator(f"process {self.number} of the gateway: its log says what to do")
        how = f"signal {-status}" if status is not None and status < 0 else f"status {status}"
        raise TemporaryError(f"process {self.number} of the gateway has ended with {how}")

    def ask_to_stop(self) -> None:
        self._process.terminate()

    def stop(self) -> None:
        self.ask_to_stop()
        self._process.join(self._end_s)
        self._process.kill()
        self._process.join()
        self.client.close()


class _Watch:
    """Says in what state the processes are."""

    def __init__(self, status: ComponentStatus, processes: int) -> None:
        self._status = status
        self._processes = processes
        self._failures: Mapping[str, str] = {}
        self._said: tuple[str, ...] = ()

    def failed(self, failures: Mapping[str, str]) -> None:
        self._failures = failures

    def look(self, running: Sequence[Any]) -> None:
        """Asks each process whether it is ready. A gateway of which one hangs does not get on."""
        now_s = time.monotonic()
        waiting = [text for text in self._failures.values() if text]
        all_up, all_answer = len(running) == self._processes, True
        for one in running:
            try:
                answer = one.client.get("/-/ready")
            except httpx.HTTPError:
                all_up = False
                all_answer &= now_s - one.started_s < _START_S
                continue
            if answer.status_code != 200:
                waiting.append(answer.text.strip())
        if all_answer:
            self._status.progressed()
        said = ("ready" if all_up else "starting", *dict.fromkeys(waiting))
        if said != self._said:
            self._said = said
            state, *why = said
            self._status.update(
                state="ready" if all_up else "starting", detail={"waiting": "; ".join(why) or None}
            )
            log.info("%s%s", state, f": {'; '.join(why)}" if why else "")


def _work(settings: Settings, number: int, folder: Path, work: Work, parent: int) -> None:
    """The main of a process, which ends in order if its supervisor is no more."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        return
    configure_for(settings)
    try:
        work(settings, number, folder)
    except NeedsOperator as err:
        log.error("%s", err)  # noqa: TRY400 - it says what to do, a trace would not
        sys.exit(NEEDS_OPERATOR)


def _know_partitions(root: Path, number: int) -> None:
    """A new process knows the partitions that the first one has seen."""
    known, own = root / _PARTITIONS, spool_of(root, number) / _PARTITIONS
    if known.exists() and not own.exists():
        own.parent.mkdir(parents=True, exist_ok=True)
        draft = own.with_suffix(".copied")
        shutil.copyfile(known, draft)
        draft.replace(own)
