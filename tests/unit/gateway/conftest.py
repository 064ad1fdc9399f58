import pytest

from varve.gateway.kernels import make_ready


@pytest.fixture(scope="session", autouse=True)
def _kernels():
    make_ready()
