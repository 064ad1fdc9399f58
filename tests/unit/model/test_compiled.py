import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from varve.model import compiled

HELPER = """
from varve.model.compiled import inline

@inline
def scaled(value):
    return value * {factor}
"""
KERNEL = """
import numpy as np
from helper import scaled
from varve.model.compiled import kernel, warm_up

@kernel("float64(const float64[:, ::1])")
def total(values):
    result = 0.0
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            result += scaled(values[i, j])
    return result

warm_up()
values = np.ones((2, 3))
values.flags.writeable = False
print(total(values), sum(total.stats.cache_hits.values()))
"""


def run(folder: Path, *, sealed: bool = False) -> str:
    """What the kernel prints in a process of its own: the result, and how often disk had it."""
    program = (
        "import sys; from pathlib import Path; from varve.model import compiled;"
        f"compiled._ROOT = Path({str(folder)!r}); sys.path.insert(0, {str(folder)!r});"
        "import kernels"
    )
    environment = os.environ | {"PYTHONPATH": "pipelines", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("NUMBA_CACHE_DIR", None)
    if sealed:
        environment |= {"NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def sources(tmp_path):
    (tmp_path / "helper.py").write_text(HELPER.format(factor=2))
    (tmp_path / "kernels.py").write_text(KERNEL)
    return tmp_path


def test_a_kernel_is_kept_on_disk_until_a_source_it_imports_changes(sources):
    assert run(sources) == "12.0 0"
    assert run(sources) == "12.0 1"
    (sources / "helper.py").write_text(HELPER.format(factor=3))
    assert run(sources) == "18.0 0"


def test_where_nothing_can_be_kept_a_kernel_is_compiled_anew(sources):
    assert run(sources, sealed=True) == run(sources, sealed=True) == "12.0 0"


def test_a_warm_kernel_refuses_other_types(sources):
    compiled.warm_up("varve.rollups.window_keys")
    from varve.model.copies import merge_runs

    with pytest.raises(TypeError):
        merge_runs(np.zeros(2), np.zeros(2), np.zeros(2), np.zeros(2))
