"""A sender whose libraries are loaded beside the first requests: a notifier that starts answers
before it has what only messages need, which is half of what there is to load.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING

from varve.notify.templates import Templates

if TYPE_CHECKING:
    from varve.model.clock import Clock
    from varve.notify.config import Configuration
    from varve.notify.driver import Result
    from varve.notify.groups import Delivery
    from varve.notify.oncall.signed_links import SignedLinks
    from varve.notify.receivers.addresses import Networks
    from varve.notify.receivers.sender import ReceiverSender


class LateSender:
    """Sends what a ReceiverSender sends, once that is loaded."""

    def __init__(
        self,
        config: Configuration,
        clock: Clock,
        external_url: str,
        links: SignedLinks | None = None,
        networks: Networks = (),
    ) -> None:
        """As of ReceiverSender. Raises ConfigError if a template file cannot be used."""
        templates = Templates.load(config.templates)
        self._arguments = (config, clock, external_url, links, networks, templates)
        self._sender: ReceiverSender | None = None
        self._loading = asyncio.Lock()

    async def load(self) -> ReceiverSender:
        """Loads, in a thread, what speaks to receivers; whoever sends before that waits for it."""
        async with self._loading:
            if self._sender is None:
                name = "varve.notify.receivers.sender"
                module = await asyncio.to_thread(importlib.import_module, name)
                self._sender = module.ReceiverSender(*self._arguments)
            return self._sender

    async def send(self, delivery: Delivery) -> Result:
        sender = self._sender or await self.load()
        return await sender.send(delivery)

    async def close(self) -> None:
        if self._sender is not None:
            await self._sender.close()
