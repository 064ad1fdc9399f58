import ast
import sys
from pathlib import Path

import pytest

import varve
import varve.setup

MODULES = [
    Path(varve.__file__),  # imported on the way to varve.setup
    *sorted(Path(varve.setup.__file__).parent.glob("*.py")),
]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_set_up_imports_the_standard_library_and_itself_alone(module):
    imported = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)

    foreign = {
        name
        for name in imported
        if name.split(".")[0] not in sys.stdlib_module_names and not name.startswith("varve.setup")
    }

    assert foreign == set()
