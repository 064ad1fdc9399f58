"""Cases of the alerting judge, if shared/alerttest is beside the checkout.

VARVE_SHARED names the folder that holds alerttest if it is elsewhere.
"""

import os
import sys
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("VARVE_SHARED", Path(__file__).parents[3] / "shared"))
pytestmark = pytest.mark.skipif(
    not (SHARED / "alerttest").is_dir(), reason=f"no alerttest under {SHARED}"
)


@pytest.fixture(scope="module", autouse=True)
def judge():
    sys.path.insert(0, str(SHARED))
    yield SHARED / "alerttest"
    sys.path.remove(str(SHARED))


@pytest.mark.parametrize("kind", ["alert", "notification"])
def test_every_template_gives_what_it_should(judge, kind):
    from alerttest import templates

    from varve.templates import conformance

    class Adapter:
        alert_template = staticmethod(conformance.alert_template)
        notification_template = staticmethod(conformance.notification_template)

    cases = templates.cases(judge / "templates" / f"{kind}.yml")
    failed = {
        raw["name"]: why
        for _, case, raw in cases
        if (why := templates.failure(Adapter(), kind, case, raw))
    }

    assert cases
    assert failed == {}
