"""A gateway on loopback whose lane is memory: real senders push to it, and tests read what came."""

from __future__ import annotations

import asyncio
import functools
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

import grpc
import uvicorn

from tests.unit.gateway.decoding import ANY_TIME
from varve.access.credentials import Credentials
from varve.api.http_protocol import BoundedProtocol, Bounds
from varve.api.server import Server
from varve.gateway.app import GatewayApp
from varve.gateway.batcher import Batcher
from varve.gateway.decoded import Decoded
from varve.gateway.first_sight import Input, Targets
from varve.gateway.messages import TargetMessage
from varve.gateway.otlp.grpc import metrics_service
from varve.gateway.otlp.http import OtlpHttp
from varve.gateway.push import PushProtocol
from varve.gateway.quotas import Quota, Quotas
from varve.gateway.remote_write import RemoteWriteDecoder
from varve.gateway.remote_write_http import RemoteWrite
from varve.gateway.replicas import Replicas
from varve.gateway.series_table import SeriesTable
from varve.ingest import arrow_codec

STALE = "stale"
_STALE_BITS = 0x7FF0000000000002
START_S = 30


class MemoryLane:
    """Takes messages as Kafka would, and keeps what they say."""

    def __init__(self) -> None:
        self.labels: dict[int, dict[str, str]] = {}
        self.kinds: dict[str, str] = {}
        self.rows: list[tuple[int, int, float]] = []
        self.error: BaseException | None = None

    def deliver(self, messages: Sequence[TargetMessage]) -> asyncio.Future[None]:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.error is not None:
            answer.set_exception(self.error)
            return answer
        for message in messages:
            block = arrow_codec.read(message.value)
            if block.rejects:  # definitions alone
                block = arrow_codec.read_definitions(message.value)
            assert not block.rejects
            for definition in block.definitions:
                tags = dict(definition.tags)
                self.labels[definition.series_id] = {"__name__": definition.metric} | tags
                self.kinds[definition.metric] = definition.type
            ids, ts, values = block.series_ids, block.ts, block.values
            self.rows += zip(ids.tolist(), ts.tolist(), values.tolist(), strict=True)
        answer.set_result(None)
        return answer

    def samples(self) -> dict[tuple[tuple[str, str], ...], list[tuple[int, float | str]]]:
        """Time and value of each sample, in order of time, by sorted labels."""
        found: dict[tuple[tuple[str, str], ...], list[tuple[int, float | str]]] = {}
        for series_id, ts, value in self.rows:
            key = tuple(sorted(self.labels[series_id].items()))
            is_stale = struct.unpack("<Q", struct.pack("<d", value))[0] == _STALE_BITS
            found.setdefault(key, []).append((ts, STALE if is_stale else value))
        return {key: sorted(points, key=lambda p: p[0]) for key, points in found.items()}

    def latest(self, metric: str) -> dict[tuple[tuple[str, str], ...], float | str]:
        """The newest value of each series of a metric, by its labels without the name."""
        return {
            tuple(pair for pair in labels if pair[0] != "__name__"): points[-1][1]
            for labels, points in self.samples().items()
            if dict(labels)["__name__"] == metric
        }


class _Unmetered:
    def request(self, protocol: str, status: int, seconds: float, size: int) -> None: ...

    def decoded(self, protocol: str, found: Decoded) -> None: ...

    def page(self, accept: str) -> tuple[bytes, str]:
        return b"", accept


class ServedGateway:
    """Runs in a thread of its own; a context manager."""

    def __init__(
        self,
        protocols: Sequence[PushProtocol] = (),
        *,
        otlp: OtlpHttp | None = None,
        credentials: Credentials | None = None,
        per_address: Quota | None = None,
    ) -> None:
        """otlp: is served over HTTP and gRPC."""
        self.lane = MemoryLane()
        self._protocols = (*protocols, RemoteWrite(), *([otlp] if otlp else []))
        self._otlp = otlp
        self._credentials = credentials or Credentials({}, {})
        self._quotas = Quotas(time.monotonic, Quota(), per_address or Quota())
        self.app: GatewayApp | None = None
        self.port = self.grpc_port = 0
        self._server: Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_up.wait(START_S)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.should_exit = True
        self._thread.join(START_S)

    def call(self, function: Callable[[], Any]) -> Any:
        """Calls a function in the thread of the event loop."""

        async def called() -> Any:
            return function()

        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(START_S)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        decoder = RemoteWriteDecoder(SeriesTable(lambda: 1, 1 << 20), Targets(4), Replicas())
        batcher = Batcher(decoder, self.lane, None, wait_s=0.0)
        self.app = GatewayApp(
            batcher,
            self._credentials,
            self._quotas,
            lambda _: Input(),
            lambda: ANY_TIME,
            _Unmetered(),
            protocols=self._protocols,
            after=self._after,
        )
        rpc = await self._serve_grpc() if self._otlp is not None else None
        config = uvicorn.Config(
            self.app,
            http=functools.partial(BoundedProtocol, bounds=Bounds()),  # type: ignore[arg-type]
            lifespan="off",
            log_level="warning",
            ws="none",
        )
        self._server = Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            serving = asyncio.create_task(self._server.serve(sockets=[listener]))
            while not self._server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.01)
            self._is_up.set()
            await serving
        if rpc is not None:
            await rpc.stop(None)

    @staticmethod
    def _after(found: Decoded) -> None:
        """Drops what no table would take."""
        found.histograms.clear()
        found.exemplars.clear()

    async def _serve_grpc(self) -> Any:
        assert self._otlp is not None
        rpc = grpc.aio.server()
        rpc.add_generic_rpc_handlers((metrics_service(lambda: self.app, self._otlp),))
        self.grpc_port = rpc.add_insecure_port("127.0.0.1:0")
        await rpc.start()
        return rpc
