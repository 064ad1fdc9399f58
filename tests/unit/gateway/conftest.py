import pytest

from varve.gateway.kernels import warm_up_gateway


@pytest.fixture(scope="session", autouse=True)
def _kernels():
    warm_up_gateway()
