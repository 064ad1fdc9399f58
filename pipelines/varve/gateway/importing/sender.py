"""Sends files and blocks to a gateway, part by part, again and again until it takes them."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cramjam
import httpx

from varve.client.http_access import retry_after_s
from varve.gateway.importing.sources import OldRows, Part, parts_of
from varve.gateway.importing.tsdb.block import TsdbBlock
from varve.gateway.importing.tsdb.parts import parts_of_block
from varve.model.errors import NeedsOperator

_HEADERS = {
    "content-type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    "content-encoding": "snappy",
    "x-prometheus-remote-write-version": "2.0.0",
}
_WRITTEN = tuple(f"x-prometheus-remote-write-{kind}-written" for kind in ("samples", "histograms"))
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
_TIMEOUT_S = 60.0


@dataclass
class Outcome:
    """What became of a file. skipped: samples that an earlier run had sent."""

    taken: int = 0
    refused: int = 0
    skipped: int = 0
    problems: list[str] = field(default_factory=list)
    """The first things that were refused."""


class ImportSender:
    """Sends files and blocks. A part that a run had sent is not sent again by the next."""

    def __init__(
        self,
        client: httpx.Client,
        folder: Path,
        told: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """client: with the gateway's address and login. folder: where it is kept how far each file
        has come. told: is told why it has to wait.
        """
        self._client = client
        self._folder = folder
        self._told = told
        self._sleep = sleep

    def send(
        self,
        file: Path,
        progress: Callable[[Part], None],
        *,
        dry_run: bool,
        old: OldRows | None = None,
    ) -> Outcome:
        """Sends the parts of a file, without the samples that `old` takes. dry_run: reads them
        only. Raises BadRequest for a file that cannot be read, NeedsOperator if the gateway refuses
        who we are.
        """
        status = file.stat()
        identity: list[str | int] = [str(file.resolve()), status.st_size, status.st_mtime_ns]
        return self._send_all(identity, parts_of(file, old), progress, dry_run=dry_run)

    def send_block(
        self,
        block: TsdbBlock,
        progress: Callable[[Part], None],
        *,
        dry_run: bool,
        after_ms: int | None = None,
    ) -> Outcome:
        """As `send`, for a block, wherever it lies: its ULID says which it is. after_ms: floats up
        to then are left out.
        """
        identity: list[str | int] = [block.ulid]
        if after_ms is not None and block.begin_ms <= after_ms:
            identity.append(after_ms)  # its parts are others
        parts = parts_of_block(block, after_ms)
        return self._send_all(identity, parts, progress, dry_run=dry_run)

    def _send_all(
        self,
        identity: list[str | int],
        parts: Iterable[Part],
        progress: Callable[[Part], None],
        *,
        dry_run: bool,
    ) -> Outcome:
        outcome = Outcome()
        mark = self._mark(identity)
        sent = 0 if dry_run else _sent(mark)
        for part in parts:
            if part.number < sent:
                outcome.skipped += part.samples
            elif dry_run:
                outcome.taken += part.samples
            else:
                self._send(part, outcome)
                _note(mark, part.number + 1)
            progress(part)
        return outcome

    def _send(self, part: Part, outcome: Outcome) -> None:
        if not part.samples:
            return
        body = bytes(cramjam.snappy.compress_raw(part.content()))
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                answer = self._client.post(
                    "/api/v1/write", content=body, headers=_HEADERS, timeout=_TIMEOUT_S
                )
            except httpx.TransportError as err:
                why, after_s = f"{type(err).__name__}: {err}", 0.0
            else:
                if answer.status_code in (204, 400):
                    _count(answer, part, outcome)
                    return
                if answer.status_code not in (429, 503):
                    raise NeedsOperator(
                        f"the gateway answers {answer.status_code}: {answer.text.strip()[:300]}"
                    )
                why, after_s = answer.text.strip()[:300], retry_after_s(answer)
            self._told(f"waiting for the gateway: {why}")
            self._sleep(max(after_s, pause_s))
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _mark(self, identity: list[str | int]) -> Path:
        """Where it is kept how far a file or block has come; another one if the file has changed,
        or goes to another gateway.
        """
        text = json.dumps([*identity, str(self._client.base_url)])
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def _count(answer: httpx.Response, part: Part, outcome: Outcome) -> None:
    taken = part.samples
    if answer.status_code == 400:
        taken = sum(int(answer.headers.get(name, 0)) for name in _WRITTEN)
    outcome.taken += taken
    outcome.refused += part.samples - taken
    if answer.status_code == 400 and len(outcome.problems) < 3:
        outcome.problems.append(answer.text.strip()[:500])


def _sent(mark: Path) -> int:
    try:
        return int(json.loads(mark.read_text())["sent"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return 0


def _note(mark: Path, sent: int) -> None:
    mark.parent.mkdir(parents=True, exist_ok=True)
    draft = mark.with_suffix(".new")
    draft.write_text(json.dumps({"sent": sent}))
    draft.replace(mark)
