"""What may be the name of a metric or of a label."""

from __future__ import annotations

from collections.abc import Mapping

from varve.ingest.reject_reasons import Reason
from varve.model.errors import BadRecord


def check_names(metric: str, tags: Mapping[str, str]) -> None:
    """Raises BadRecord(INVALID_LABEL): any non-empty UTF-8 is a name, but __name__ is no label."""
    if not metric:
        raise BadRecord(Reason.INVALID_LABEL, "the metric has no name")
    if "__name__" in tags:
        raise BadRecord(Reason.INVALID_LABEL, "__name__ as a tag: put the name in `metric`")
    if "" in tags:
        raise BadRecord(Reason.INVALID_LABEL, "a tag has an empty name")
