"""Days on which people do something else: baselines and forecasts take them for another weekday."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

from pydantic import field_validator

from varve.model.errors import NeedsOperator
from varve.settings.section import Section

if TYPE_CHECKING:
    from varve.model.calendar import Calendar


class Holidays(Section):
    country: str = ""
    """Country whose public holidays count, an ISO 3166 code such as DE. Empty: of none."""
    subdivision: str = ""
    """Part of the country, such as BY for Bavaria. Empty: holidays of the whole country alone."""
    dates: str = ""
    """More such days, separated by commas: 2026-12-24, 2026-12-31."""
    zone: str = "UTC"
    """Time zone at whose midnights they begin and end, such as Europe/Berlin."""
    like: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] = (
        "sunday"
    )
    """Day of the week that they are judged and forecast like."""

    @field_validator("dates")
    @classmethod
    def _are_dates(cls, value: str) -> str:
        _dates(value)
        return value

    @field_validator("zone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as err:
            raise ValueError(f"{value!r} is no time zone: write one as Europe/Berlin") from err
        return value

    def calendar(self) -> Calendar:
        """The days as code goes by them. Raises NeedsOperator for a country that is not known."""
        from varve.model.calendar import Calendar  # noqa: PLC0415 - numpy takes a moment

        found = Calendar(self.country, self.subdivision, _dates(self.dates), self.zone, self.like)
        if (self.subdivision) and not self.country:
            raise NeedsOperator("holidays.subdivision needs holidays.country")
        found.check()
        return found


def _dates(text: str) -> tuple[dt.date, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    try:
        return tuple(sorted({dt.date.fromisoformat(part) for part in parts}))
    except ValueError as err:
        raise ValueError(f"write days as 2026-12-24, separated by commas: {err}") from err
