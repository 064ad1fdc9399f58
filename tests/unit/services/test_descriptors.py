import resource

import pytest

from varve.services.descriptors import use_all_descriptors


@pytest.fixture
def few():
    """As many files as a shell allows, until the test ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard <= 1_024:
        pytest.skip("this machine allows no more")
    resource.setrlimit(resource.RLIMIT_NOFILE, (1_024, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_query_service_may_open_all_files_that_the_machine_allows(few):
    use_all_descriptors()

    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (few, few)
