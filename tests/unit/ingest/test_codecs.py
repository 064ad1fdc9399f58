"""The registry of wire formats: which codec reads a message, and that each is described."""

import json

import pytest

from tests.unit.ingest.messages import NOW_MS, as_arrow, as_json, record
from varve.ingest import codecs
from varve.ingest.codecs import CODECS, Codecs
from varve.ingest.decoded import EMPTY, Block
from varve.ingest.decoder import Decoder
from varve.model.identity import define
from varve.model.resources import schemas_dir

SERIES = define("requests", {})
MAX_BYTES = 100_000


@pytest.mark.parametrize("codec", CODECS)
def test_every_format_has_a_file_that_describes_it(codec):
    for name in codec.schema_files:
        assert json.loads((schemas_dir() / "wire" / name).read_text())["description"]


def test_a_content_type_is_of_one_codec():
    declared = [name for codec in CODECS for name in codec.content_types]

    assert len(declared) == len(set(declared))
    assert all(name == name.lower() and ";" not in name for name in declared)


@pytest.mark.parametrize(
    "content_type", ["Application/JSON; charset=utf-8", "application/x-ndjson", "text/plain", ""]
)
def test_a_format_that_says_its_name_is_read_as_such_and_an_unknown_name_says_nothing(content_type):
    headers = (("Content-Type", content_type.encode()),)
    decoder = Decoder()

    assert len(decoder.samples(as_json(record()), MAX_BYTES, headers)) == 1
    arrow = decoder.samples(as_arrow([(SERIES, NOW_MS, 1.0)]), MAX_BYTES, headers)
    # A name goes before the bytes: what is called JSON is not read as Arrow.
    assert len(arrow) == (not content_type.lower().startswith("application/"))


class Numbers:
    """A format whose bytes nobody can tell: it is known by its name alone."""

    content_types = frozenset({"application/x-numbers"})
    schema_files = ("sample.schema.json",)

    def recognises(self, body):
        return False

    def samples(self, body, headers):
        (unit,) = [value for name, value in headers if name == "unit"]
        series = define("numbers", {"unit": unit.decode()})
        values = [float(n) for n in body.split()]
        return Block(
            *(
                codecs_column * len(values)
                for codecs_column in ([series.series_id], [series.check])
            ),
            [NOW_MS] * len(values),
            values,
        )

    singles_begin = None

    def may_be_single(self, body):
        return False

    def definitions(self, body, headers):
        return EMPTY


def test_a_new_format_is_one_entry_and_gets_all_headers(monkeypatch):
    monkeypatch.setattr(codecs, "CODECS", (Numbers, *CODECS))
    headers = (("content-type", b"application/x-numbers"), ("unit", b"apples"))

    block = Decoder().samples(b"1 2 3", MAX_BYTES, headers)

    assert block.values == [1.0, 2.0, 3.0]
    assert set(block.series_ids) == {define("numbers", {"unit": "apples"}).series_id}
    assert Codecs().of(b"1 2 3", None).content_types == {"application/json", "application/x-ndjson"}
