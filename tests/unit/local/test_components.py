"""How the components of `varve up` are watched."""

import pytest

from varve.local.components import FORECASTS, MAINTENANCE, service
from varve.services.home import Home
from varve.settings import Settings


@pytest.mark.parametrize("name", [FORECASTS, MAINTENANCE])
def test_one_that_looks_now_and_then_hangs_after_a_few_looks_at_the_soonest(name, tmp_path):
    """However soon others count as hanging: between two looks it says nothing."""
    given = {
        "home": tmp_path,
        "supervision": {"stalled_after_s": 20},
        "forecasts": {"look_every_s": 60},
        "maintenance": {"compact_every_s": 60},
    }
    component = service(name, Settings(**given), Home(tmp_path), None, {})

    assert component.stalled_s == 180
