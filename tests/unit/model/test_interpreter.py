"""What a long-running service does to its interpreter."""

from __future__ import annotations

import subprocess
import sys


def test_at_the_end_of_a_service_no_extension_module_says_that_it_leaks():
    code = (
        "import duckdb; from varve.model.interpreter import set_up_for_requests;"
        " set_up_for_requests()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
