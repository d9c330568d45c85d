# SPDX-License-Identifier: Apache-2.0
"""What is left of a run whose machine lost its power."""

from pathlib import Path

import polars as pl
from live_node import holds_none_twice

from tracer.store.manifest import read_manifest
from tracer.store.recovery import recover


def end_of_rows(output: Path) -> int | None:
    """The end of the last window that a recovery finds (CLOCK_MONOTONIC, ns), once it was seen that all is well."""
    if not list(output.glob("runs/*/session.json")):
        return None
    found = recover(output)
    assert (found.problems, found.unwritten, found.live) == ([], [], [])
    (manifest,) = map(read_manifest, output.glob("runs/*/session.json"))
    assert [run.problems for run in found.runs] in ([], [[]])
    assert recover(output).runs == []
    rows = [pl.read_parquet(path, hive_partitioning=False) for path in output.glob("windows/*/*/*.parquet")]
    if not rows:
        return None
    windows = pl.concat(rows)
    assert holds_none_twice(windows)
    assert manifest.totals.rows["windows"] == windows.height
    return int((windows["window_tick"] + windows["ticks"]).max()) * manifest.tick_ns
