"""Pushgateway's groups in the gateway: shown every few seconds, kept over restarts."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from varve.gateway.app import GatewayApp
from varve.gateway.decoded import Decoded
from varve.gateway.lane import Overloaded
from varve.gateway.push_protocols.groups import Groups
from varve.gateway.push_protocols.pushgateway import Pushgateway
from varve.gateway.refusals import Refused
from varve.gateway.write_request import Message
from varve.model.errors import NeedsOperator
from varve.services.road import Road

_SAVE_S = 1.0

log = logging.getLogger("varve.gateway.groups")


class ShownGroups:
    """For one event loop."""

    def __init__(self, road: Road, file: Path, every_s: float, most: int) -> None:
        """file: where groups are kept. every_s: between two samples of a series. Raises
        NeedsOperator if what is in the file cannot be read.
        """
        self._road = road
        self._file = file
        self._every_ms = round(every_s * 1000)
        self._groups = Groups(most)
        self.protocol = Pushgateway(self._groups, road.clock.now_ms)
        self._tasks: list[asyncio.Task[None]] = []
        try:
            self._groups.load(file)
        except (OSError, ValueError, KeyError, TypeError) as err:
            text = f"{file} cannot be read ({err}): move it away; groups are then those pushed anew"
            raise NeedsOperator(text) from err

    def open(self) -> None:
        self._tasks = [asyncio.create_task(self._show()), asyncio.create_task(self._save())]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._save_if_changed()

    async def _show(self) -> None:
        while True:
            now_ms = self._road.clock.now_ms()
            await asyncio.sleep((self._every_ms - now_ms % self._every_ms) / 1000)
            app = self._road.app
            if app is None or not len(self._groups):
                continue
            message = self._groups.shown(self._road.clock.now_ms()).message()
            try:
                _, why = await self._take(app, message)
            except (Refused, Overloaded) as err:
                log.warning("pushed groups are not shown this time: %s", err)
            else:
                if why is not None:
                    log.warning("pushed groups are not shown this time: %s", why)

    async def _take(self, app: GatewayApp, message: Message) -> tuple[Decoded, Refused | None]:
        name = self.protocol.name
        return await app.take(name, lambda: message, message.content.nbytes, name, "")

    async def _save(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_S)
            self._save_if_changed()

    def _save_if_changed(self) -> None:
        if not self._groups.changed:
            return
        try:
            self._groups.save(self._file)
        except OSError as err:
            log.warning("pushed groups cannot be kept in %s: %s", self._file, err)
