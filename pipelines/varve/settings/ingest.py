"""How messages of Kafka become rows, and what is refused."""

from __future__ import annotations

from pydantic import Field

from varve.settings.section import Section


class Ingest(Section):
    trigger_s: float = Field(2.0, ge=0)
    """Seconds between batches. 2: under 5 s from sample to answer, about 43 k commits a day."""
    max_samples_per_batch: int = Field(10_000_000, gt=0)
    """Samples one batch takes, about: messages are read by the number, so it follows what those
    before held. 10 M: a task of four holds a core for some two seconds, which a task of another
    query may have to wait for."""
    max_bytes_per_batch: int = Field(256 * 2**20, gt=0)
    """Bytes of messages one batch takes, about, once expanded. 256 MiB: 10 M samples as our clients
    send them."""
    max_messages_per_batch: int = Field(500_000, gt=0)
    """Kafka messages one batch takes at most. 500,000: of one sample each a batch of them takes
    some seconds."""
    max_message_bytes: int = Field(8 * 2**20, gt=0)
    """Bytes of one message; longer ones are refused. 8 MiB: eight times what Kafka takes
    unasked."""
    max_future_s: int = Field(600, ge=0)
    """Seconds a sample's timestamp may be ahead of the broker's clock. 10 min: a wrong clock is
    seen as one, a slightly fast one is not."""
    late_after_s: int = Field(7_200, gt=0)
    """Seconds after which a sample is old: old ones go to files of their own, so that recent files
    stay narrow. 2 h: longer than most outages of a producer."""
    complete_every_s: float = Field(2.0, gt=0)
    """Seconds between notes of how far input is complete. 2, as often as batches are stored. A
    query without input commits them only when a minute can close, or every 30 s."""
    max_clock_gap_days: float = Field(1, gt=0)
    """Days that this machine's clock may be ahead of everything stored and sent when ingest starts;
    beyond, it has to be confirmed or to stand the test of time before completeness moves. 1: a
    night off needs neither. More where messages always come later, as through a mirror that
    lags."""
    reject_bytes: int = Field(8 * 2**20, ge=0)
    """Bytes of refused records that a batch keeps of one partition, and as many of those over an
    eighth of it; the rest is a number and the offsets to read again from Kafka. 8 MiB: as long as
    the longest message, and no storm of writes."""
    active_hours: float = Field(24, ge=1)
    """Hours, before the end of the last closed one, in which a series was seen if it counts against
    the limits. 24: pods of yesterday make room, a nightly job keeps its place."""
    scratch: str = ""
    """Folder on every machine for its index of known series, 12 bytes each, which all processes
    there share. Empty: _known beside tables on local disk, else varve-<user> in the temporary
    folder."""
    on_expired_offsets: str = Field("stop", pattern="^(stop|count)$")
    """stop: when Kafka has dropped offsets not yet stored, stop and say so. count: go on, and note
    the gap in the commit."""
