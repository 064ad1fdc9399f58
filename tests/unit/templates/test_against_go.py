"""Templates against Go's text/template and html/template, where Go is installed."""

import pytest

from tests.unit.templates.go_templates import GO, Generator, Go, ours

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(GO is None, reason="no go on PATH"),
]
TEXTS = 5_000


@pytest.fixture(scope="module")
def go(tmp_path_factory):
    program = Go(tmp_path_factory.mktemp("go"))
    yield program
    program.close()


@pytest.mark.parametrize("seed", range(3))
def test_a_text_gives_what_go_gives(go, seed):
    generator = Generator(seed)
    for _ in range(TEXTS):
        text = generator.text()
        assert ours(text, html=False) == go.expand(text, html=False), text


@pytest.mark.parametrize("seed", range(3))
def test_a_page_is_escaped_as_go_escapes_it(go, seed):
    generator = Generator(seed)
    for _ in range(TEXTS):
        page = generator.page()
        expected = go.expand(page, html=True)
        # Go refuses some pages that have a context at each place all the same.
        if expected is not None:
            assert ours(page, html=True) == expected, page
