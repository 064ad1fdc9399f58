import pytest

from varve.gateway.startup import make_ready


@pytest.fixture(scope="session", autouse=True)
def _kernels():
    make_ready()
