import pytest

from tests.unit.promql.asking import storage_of
from tests.unit.promql.function_documents import completion, files, usage
from varve.promql.engine import Engine
from varve.promql.evaluation import histogram_range_functions
from varve.promql.evaluation.topk import SERIES_FILTERS
from varve.promql.function_table import AGGREGATIONS, FUNCTIONS
from varve.promql.functions.implementations import IMPLEMENTATIONS
from varve.promql.kernels import codes
from varve.promql.signatures import Accuracy, Trait, ValueType

OF_WINDOWS = [name for name, entry in FUNCTIONS.items() if entry.kernel is not None]
ARGUMENTS = {
    ValueType.SCALAR: "0.5",
    ValueType.STRING: "'x'",
    ValueType.VECTOR: "a",
    ValueType.MATRIX: "a[1m]",
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_can_be_called_and_has_all_that_is_shown_of_it(name):
    entry = FUNCTIONS[name]
    engine = Engine(storage_of(a=[(0, 1.0), (30_000, 2.0)]))
    args = ", ".join(ARGUMENTS[arg] for arg in entry.args[: entry.least_args])

    result = engine.instant(f"{name}({args})", 30_000)

    assert result.kind == entry.returns.value
    assert entry.help.endswith(".")
    assert entry.tier.accuracy in Accuracy
    assert f'"usage": "{usage(entry)}"' in completion()


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_an_aggregation_can_be_called_and_has_all_that_is_shown_of_it(name):
    entry = AGGREGATIONS[name]
    engine = Engine(storage_of(a=[(0, 1.0), (30_000, 2.0)]))
    parameter = "" if entry.parameter is None else f"{ARGUMENTS[entry.parameter]}, "

    assert engine.instant(f"{name}({parameter}a)", 30_000).kind == "vector"
    assert entry.help.endswith(".")
    assert f'"usage": "{usage(entry)}"' in completion()


def test_every_function_is_implemented_once_and_every_implementation_is_in_the_table():
    assert IMPLEMENTATIONS.keys() == FUNCTIONS.keys() - OF_WINDOWS
    takes_histograms = {n for n in OF_WINDOWS if not FUNCTIONS[n].has(Trait.FLOATS_ONLY)}
    assert histogram_range_functions.FUNCTIONS.keys() == takes_histograms
    accumulated = {name for name, entry in AGGREGATIONS.items() if entry.kernel is not None}
    assert AGGREGATIONS.keys() - accumulated == {*SERIES_FILTERS, "quantile", "count_values"}


def test_functions_of_range_vectors_and_no_others_have_a_kernel():
    of_ranges = [name for name, entry in FUNCTIONS.items() if ValueType.MATRIX in entry.args]
    numbers = {FUNCTIONS[name].kernel for name in OF_WINDOWS}

    assert of_ranges == OF_WINDOWS
    assert numbers <= {value for value in vars(codes).values() if isinstance(value, int)}
    assert len(numbers) == len(OF_WINDOWS) - 1, "absent_over_time shares that of present_over_time"


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_what_is_written_from_the_table_is_current(path):
    assert path.read_text() == files()[path], "run `make functions`"
