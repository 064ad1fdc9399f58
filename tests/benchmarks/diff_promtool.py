"""Random rules and tests of them, by the installed promtool and by `varve rules test`.

Both must say the same, word for word. Left out is where promtool before 3.0 differs: samples
exactly as old as the lookback, labels that are set to nothing, two rules that write one series.

    make diff-promtool ARGS="--files 200 --seed 7"
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from varve.cli.main import main as varve

VALUES = ["0", "1", "2", "1x3", "0x2", "0+1x4", "3-1x3", "_", "_x3", "stale", "1x5", "2.5", "-1"]
EXPRESSIONS = [
    *["m > 0", "m", "m > 1", "sum by (a) (m)", "absent(m)", "r + 1", "m offset 1m", "m * 2 > 1"],
    *["count(ALERTS) by (alertname, alertstate)", "m unless n", "m and n", "time()", "r > 1", "s"],
    *["ALERTS_FOR_STATE", "max(m) or vector(3)", '{__name__=~"r|s"} * 2', "vector(1)"],
    'label_replace(m, "z", "$1", "a", "(.*)")',
]
LABELS = ["p", "{{ $value }}", "{{ if gt $value 1.0 }}hi{{ else }}lo{{ end }}"]
ANNOTATIONS = [
    *["v {{ $value }}", "{{ $labels.a | toUpper }}", "{{ humanize $value }}"],
    *['{{ printf "%.2f" $value }}', "{{ $value | humanizeDuration }}", "{{ $externalLabels.e }}"],
    "{{ range $k, $v := $labels }}{{ $k }}={{ $v }} {{ end }}",
    '{{ range query "m" | sortByLabel "a" }}{{ .Value }} {{ end }}',
]
SERIES = ['m{a="x"}', 'm{a="y"}', 'n{a="x"}', "m"]
ASKED = ["ALERTS", "ALERTS_FOR_STATE", "r", "s", "t", "timestamp(r)", "m"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--tests", type=int, default=6, help="in each file")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--promtool", default=shutil.which("promtool"))
    args = parser.parse_args()
    if args.promtool is None:
        print("promtool is not on PATH: install Debian's package prometheus, or give --promtool")
        return 1
    print(f"seed {args.seed}")
    differ = 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for number in range(args.files):
            chance = random.Random(f"{args.seed}/{number}")
            Path("rules.yml").write_text(json.dumps(rules(chance)))
            Path("test.yml").write_text(json.dumps(tests(chance, args.tests)))
            wanted, got = by_promtool(args.promtool), by_varve()
            if wanted != got:
                differ += 1
                lines = difflib.unified_diff(
                    *(text.splitlines() for text in (wanted, got)), "promtool", "varve", lineterm=""
                )
                print(f"file {number}:", *list(lines)[:20], sep="\n")
    print(f"{args.files} files of {args.tests} tests, {differ} differ")
    return 1 if differ else 0


def by_promtool(program: str) -> str:
    run = subprocess.run(
        [program, "test", "rules", "test.yml"], capture_output=True, text=True, check=False
    )
    return f"{run.returncode}\n{run.stderr}"


def by_varve() -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        status = varve(["rules", "test", "test.yml"])
    return f"{status}\n{said.getvalue()}"


def rules(chance: random.Random) -> dict[str, Any]:
    names = ["A", "B", "C", "r", "s", "t"]
    chance.shuffle(names)
    made = [rule(chance, name) for name in names[: chance.randint(2, 6)]]
    half = len(made) // 2
    limit = {"limit": chance.randint(1, 3)} if chance.random() < 0.2 else {}
    return {
        "groups": [
            {"name": "g", "rules": made[:half], **limit},
            {"name": "h", "rules": made[half:]},
        ]
    }


def rule(chance: random.Random, name: str) -> dict[str, Any]:
    made: dict[str, Any] = {"expr": chance.choice(EXPRESSIONS)}
    if not name.isupper():
        label = {"labels": {"a": chance.choice("qz")}} if chance.random() < 0.4 else {}
        return made | {"record": name} | label
    if chance.random() < 0.6:
        made["for"] = chance.choice(["1m", "2m", "90s", "0s", "5m"])
    if chance.random() < 0.4:
        made["keep_firing_for"] = chance.choice(["1m", "3m", "90s"])
    if chance.random() < 0.5:
        made["labels"] = {"sev": chance.choice(LABELS)}
    return made | {"alert": name, "annotations": {"s": chance.choice(ANNOTATIONS)}}


def tests(chance: random.Random, count: int) -> dict[str, Any]:
    return {
        "rule_files": ["rules.yml"],
        "evaluation_interval": chance.choice(["1m", "2m"]),
        "group_eval_order": ["g", "h"],
        "tests": [test(chance, number) for number in range(count)],
    }


def test(chance: random.Random, number: int) -> dict[str, Any]:
    def minute() -> str:
        return f"{chance.randint(0, 12)}m"

    def values() -> str:
        return " ".join(["_", *(chance.choice(VALUES) for _ in range(chance.randint(1, 6)))])

    expected = [{"labels": "x", "value": 5}]
    return {
        "name": f"t{number}",
        "interval": chance.choice(["47s", "59s"]),  # no sample is just 5 minutes old
        "external_labels": {"e": "f"},
        "input_series": [
            {"series": series, "values": values()}
            for series in chance.sample(SERIES, chance.randint(1, 4))
        ],
        "alert_rule_test": [{"eval_time": minute(), "alertname": name} for name in "AABBCC"],
        "promql_expr_test": [
            {"expr": expr, "eval_time": minute(), "exp_samples": expected} for expr in ASKED
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
