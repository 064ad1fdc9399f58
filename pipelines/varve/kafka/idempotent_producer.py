"""kafka-python's idempotent producer, which goes on after any outage."""

from __future__ import annotations

from typing import Any

from kafka import KafkaProducer
from kafka.producer.transaction_manager import TransactionState


class IdempotentProducer(KafkaProducer):  # type: ignore[misc]  # kafka-python has no types
    """A KafkaProducer whose messages are acknowledged by all replicas and stored once a try.

    Once a message that had been sent was tried for too long, its fate is unknown, so the client
    gives up its producer id. kafka-python up to 3.0.12 then never asks for another: nothing is sent
    any more, nothing expires, and no caller is told. Here it asks again.
    """

    def __init__(self, **options: Any) -> None:
        """Like KafkaProducer's."""
        super().__init__(**options, acks="all", enable_idempotence=True)
        manager = self._transaction_manager
        give_up = manager.reset_producer_id

        def give_up_and_ask_again() -> None:
            with manager._lock:  # noqa: SLF001 - there is no other way
                give_up()
                manager._current_state = TransactionState.UNINITIALIZED  # noqa: SLF001

        manager.reset_producer_id = give_up_and_ask_again
