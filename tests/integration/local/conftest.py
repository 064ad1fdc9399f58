import pytest

from tests.integration.local.up_process import Up


@pytest.fixture
def start():
    running = []

    def begin(*arguments, **options):
        running.append(Up(*arguments, **options))
        return running[-1]

    yield begin
    for up in running:
        up.end()
