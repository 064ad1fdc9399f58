from __future__ import annotations

import pytest

from varve.model import errors
from varve.model.clock import ManualClock, SystemClock


def test_every_error_raised_on_purpose_has_one_root():
    kinds = [k for k in vars(errors).values() if isinstance(k, type)]

    assert all(issubclass(kind, errors.VarveError) for kind in kinds)
    assert all(kind.__doc__ for kind in kinds)


def test_a_bad_record_keeps_its_reason_apart_from_its_detail():
    with pytest.raises(errors.BadRecord, match="malformed: not JSON") as caught:
        raise errors.BadRecord("malformed", "not JSON")

    assert (caught.value.reason, caught.value.detail) == ("malformed", "not JSON")


def test_a_manual_clock_moves_only_when_told():
    clock = ManualClock(5)
    assert clock.now_ms() == 5

    clock.advance(10)

    assert clock.now_ms() == 15
    assert SystemClock().now_ms() > 1_700_000_000_000
