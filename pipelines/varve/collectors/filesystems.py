"""File systems of this machine. One that fails or hangs is left out, the others come in time."""

from __future__ import annotations

import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psutil

from varve.collectors.readings import Part, Reading, Unreadable, gauge

# Not storage of anybody's, as in node_exporter; and network ones: a server that is away would block
# the whole scrape.
_OTHER_TYPES = re.compile(
    r"^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660"
    r"|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs"
    r"|tracefs|erofs|nfs4?|cifs|smb3|ceph|afs|9p|fuse\..+)$"
)
_OTHER_MOUNTS = re.compile(
    r"^/(dev|proc|sys|run/credentials/.+|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"
)

_SIZE = gauge("node_filesystem_size_bytes", "bytes", "Size of a file system.")
_FREE = gauge("node_filesystem_free_bytes", "bytes", "Its free space, root's share included.")
_AVAIL = gauge("node_filesystem_avail_bytes", "bytes", "Its free space for everybody.")
_FILES = gauge("node_filesystem_files", "", "Inodes it can hold.")
_FILES_FREE = gauge("node_filesystem_files_free", "", "Inodes it can still take.")
_READONLY = gauge("node_filesystem_readonly", "", "1 if it is mounted read-only.")
_ERROR = gauge("node_filesystem_device_error", "", "1 if it could not be asked.")

DEADLINE_S = 1.0
"""Seconds that all file systems together may take to answer."""
_LEAST_S = 0.1
"""Seconds that each may take when others have used up that time."""

Statfs = Callable[[str], os.statvfs_result]


class Filesystems:
    """Asks every file system in a thread, which may hang without anybody waiting for it.

    One that hangs is not asked again until it has answered, so there is a thread for each that
    hangs and one more.
    """

    def __init__(self, statfs: Statfs = os.statvfs, deadline_s: float = DEADLINE_S) -> None:
        self._statfs = statfs
        self._deadline_s = deadline_s
        self._worker = _Worker(statfs)
        self._hanging: dict[str, _Worker] = {}

    def __call__(self) -> Iterator[Part]:
        mounts = {m.mountpoint: m for m in psutil.disk_partitions(all=True)}  # the last is on top
        deadline = time.monotonic() + self._deadline_s
        for point, mount in mounts.items():
            # A container's root is an overlay, and its only disk.
            if point != "/" and (_OTHER_TYPES.match(mount.fstype) or _OTHER_MOUNTS.match(point)):
                continue
            labels = {"device": mount.device, "fstype": mount.fstype, "mountpoint": point}
            try:
                stat = self._ask(point, deadline)
            except OSError as err:
                yield Reading(_ERROR, labels, 1.0)
                yield Unreadable(point, str(err))
                continue
            if stat.f_blocks == 0:
                continue
            yield Reading(_SIZE, labels, float(stat.f_blocks * stat.f_frsize))
            yield Reading(_FREE, labels, float(stat.f_bfree * stat.f_frsize))
            yield Reading(_AVAIL, labels, float(stat.f_bavail * stat.f_frsize))
            yield Reading(_FILES, labels, float(stat.f_files))
            yield Reading(_FILES_FREE, labels, float(stat.f_ffree))
            yield Reading(_READONLY, labels, float("ro" in mount.opts.split(",")))
            yield Reading(_ERROR, labels, 0.0)

    def _ask(self, point: str, deadline: float) -> os.statvfs_result:
        """Raises OSError; TimeoutError for one that hangs."""
        stuck = self._hanging.get(point)
        if stuck is not None:
            if not stuck.idle.is_set():
                raise TimeoutError("it has not answered an earlier scrape yet")
            del self._hanging[point]
            stuck.end()
        worker = self._worker
        worker.ask(point)
        if not worker.idle.wait(max(_LEAST_S, deadline - time.monotonic())):
            self._hanging[point] = worker
            self._worker = _Worker(self._statfs)
            raise TimeoutError("it does not answer in time")
        if isinstance(worker.answer, OSError):
            raise worker.answer
        return worker.answer


@dataclass
class _Worker:
    """A thread that asks one file system at a time. It keeps no process from ending."""

    statfs: Statfs
    idle: threading.Event = field(default_factory=threading.Event)
    """Set while nothing is asked: then `answer` is that of the last question."""
    _points: queue.SimpleQueue[str | None] = field(default_factory=queue.SimpleQueue)
    _answer: os.statvfs_result | OSError | None = None
    _thread: threading.Thread | None = None

    @property
    def answer(self) -> os.statvfs_result | OSError:
        if self._answer is None:
            raise ValueError("nothing was asked")
        return self._answer

    def ask(self, point: str) -> None:
        self.idle.clear()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="statfs", daemon=True)
            self._thread.start()
        self._points.put(point)

    def end(self) -> None:
        self._points.put(None)

    def _run(self) -> None:
        while (point := self._points.get()) is not None:
            try:
                self._answer = self.statfs(point)
            except OSError as err:
                self._answer = err
            self.idle.set()
