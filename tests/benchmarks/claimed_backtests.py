"""What rules have recorded, beside what `varve rules backtest` gives as of the snapshot that each
evaluation was claimed with.

A backtest has the values of alerts, not of recorded series: the expression is asked as an alert's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from varve.rules.group_run import Part
from varve.rules.running.changes import TABLE
from varve.rules.running.claims import KEY, Claim
from varve.storage.log import entries
from varve.storage.store import Store
from varve.storage.table import Table

_RULES = """\
groups:
- name: asked
  interval: {interval_s}s
  rules:
  - {{alert: Asked, expr: '{expr}'}}
"""


def recording_tokens(store: Store) -> dict[int, str]:
    """The snapshot of each slot's recording rules, by the slot's time in ms, of the only group."""
    tokens: dict[int, str] = {}
    for entry in entries(store, TABLE, -1, Table(store, TABLE).version):
        said = entry.metadata.get(KEY, {})
        if "claim" not in said:
            continue
        claim = Claim.of(said["claim"], said["by"], entry.timestamp_ms or 0)
        for slot in claim.slots:
            if slot.part is not Part.ALERTING:
                tokens[slot.at_ms] = claim.token
    return tokens


def differing(
    tables: Path,
    recorded: Mapping[int, set[float]],
    *,
    expr: str,
    interval_s: int,
    most: int,
) -> tuple[int, list[tuple[int, set[float], float | None]]]:
    """Asks for `most` slots, spread over all that were recorded: how many were asked, and those of
    which the backtest gives another value.

    Raises KeyError if a slot was recorded that nobody had claimed.
    """
    tokens = recording_tokens(Store(str(tables), {}))
    unclaimed = sorted(set(recorded) - set(tokens))
    if unclaimed:
        raise KeyError(f"{len(unclaimed)} slots were recorded without a claim: {unclaimed[:3]}")
    slots = sorted(recorded)
    asked = slots[:: max(1, len(slots) // most)]
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "asked.yml"
        path.write_text(_RULES.format(interval_s=interval_s, expr=expr))
        for slot in asked:
            value = _value(path, tables, slot, tokens[slot])
            if recorded[slot] != {value}:
                wrong.append((slot, recorded[slot], value))
    return len(asked), wrong


def _value(rules: Path, tables: Path, at_ms: int, token: str) -> float | None:
    """What the expression gave then, as of a snapshot; None if nothing."""
    at = f"{at_ms / 1000:.3f}"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "varve.cli", "rules", "backtest", str(rules)),
            *("--from", at, "--to", at, "--as-of", token, "--format", "json"),
        ],
        env={**os.environ, "VARVE_STORAGE__ROOT": str(tables)},
        check=True,
        stdout=subprocess.PIPE,
    )
    (rule,) = json.loads(done.stdout)["rules"]
    return next((float(one["value"]) for one in rule["episodes"]), None)
