import os
import subprocess
import sys

import psutil

from varve.services.usage import family, spark_parts, usage_of

# Works for a moment, then says so and waits to be told to end.
BUSY = (
    "import sys,time\nwhile time.process_time() < 0.3: pass\n"
    "print('done', flush=True)\nsys.stdin.read()"
)
PARENT = (
    "import subprocess,sys\n"
    f"child = subprocess.Popen([sys.executable, '-c', {BUSY!r}], stdin=subprocess.PIPE)\n"
    "sys.stdin.readline()\nchild.communicate()\nprint('reaped', flush=True)\nsys.stdin.read()"
)


def test_time_of_a_child_that_ended_stays_in_the_sum():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout.readline() == "done\n"
        members = family(parent.pid)
        assert len(members) == 2
        before = usage_of(members)
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "reaped\n"

        after = usage_of(family(parent.pid))

        assert len(family(parent.pid)) == 1
        # Ticks of 10 ms are rounded for each process.
        assert after.cpu_s > before.cpu_s - 0.05 > 0.2
        assert after.rss_bytes < before.rss_bytes
    finally:
        parent.kill()
        parent.communicate()
    assert family(parent.pid) == []


def test_without_a_jvm_there_is_the_driver_alone():
    parts = spark_parts()

    assert parts["driver"].rss_bytes > 0
    assert parts["driver"].cpu_s > 0
    if not any(p.name() == "java" for p in psutil.Process(os.getpid()).children(recursive=True)):
        assert parts["workers"].rss_bytes == 0
