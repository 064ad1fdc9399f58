"""What storage costs, for reports of what it is spent on."""

from __future__ import annotations

from pydantic import Field

from varve.settings.section import Section


class Usage(Section):
    hot_price: float = Field(0.08, ge=0)
    """Price of a GB (10^9 bytes) in a month where storage.root is. 0.08: an SSD volume of a cloud,
    as of 2026."""
    warm_price: float = Field(0.045, ge=0)
    """The same where storage.warm_root is. 0.045: a volume of hard disks."""
    cold_price: float = Field(0.023, ge=0)
    """The same where storage.cold_root is. 0.023: a bucket."""
    currency: str = "USD"
    """What these prices are in."""
