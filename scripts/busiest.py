# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["polars>=1.20"]
# ///
"""The busiest cgroups of the newest run in an output directory of `tracer run`, or of another: busiest.py DIR[@RUN]"""

import json
import sys
from pathlib import Path
from typing import NoReturn

import polars as pl

ROWS = 15
NAME_WIDTH = 32


def stop(said: str) -> NoReturn:
    """Ends as `tracer` does where something is not as it is needed: in one line, with 2."""
    print(said, file=sys.stderr)
    raise SystemExit(2)


def newest_run(output: Path, run: str) -> dict:
    """The manifest of the newest run whose id begins with `run`; `last` is the newest of all."""
    manifests = [json.loads(path.read_bytes()) for path in output.glob("runs/*/session.json")]
    named = [manifest for manifest in manifests if run == "last" or str(manifest["run_id"]).startswith(run)]
    return max(named, key=lambda manifest: manifest["start"]["utc_ns"])


def busiest(files: list[Path]) -> pl.DataFrame:
    """One row per cgroup, the busiest first; a counter that was not counted is null."""
    names = pl.col("cgroup_kind", "cgroup_path", "container_id", "container_name", "pod_name").cast(pl.String)
    counters = pl.col("cycles", "instructions", "llc_misses", "wait_time_ns")
    rows = pl.read_parquet(files)
    # Version 1 had no waits.
    rows = rows if "wait_time_ns" in rows.columns else rows.with_columns(wait_time_ns=pl.lit(None, pl.Int64))
    return (
        rows.sort("window_start")
        .group_by("cgroup_id")
        .agg(
            # The first rows can be from before the name was known.
            names.drop_nulls().last(),
            pl.col("cpu_time_ns", "context_switches").sum(),
            pl.when(counters.is_not_null().any()).then(counters.sum()),
        )
        .sort("cpu_time_ns", descending=True)
    )


def name(row: dict) -> str:
    """Whose row it is, on one line; of a long path the end, which tells cgroups apart."""
    text = "/".join(part for part in (row["pod_name"], row["container_name"]) if part)
    if not text and row["container_id"]:
        text = f"{row['cgroup_kind']} {row['container_id'][:12]}"
    text = text or row["cgroup_path"] or f"cgroup {row['cgroup_id']}"
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= NAME_WIDTH else "..." + text[3 - NAME_WIDTH :]


def main() -> None:
    if len(sys.argv) != 2:
        stop("usage: busiest.py DIR")
    directory, _at, run = (sys.argv[1], "", "") if Path(sys.argv[1]).exists() else sys.argv[1].rpartition("@")
    output = Path(directory)
    try:
        run = newest_run(output, run)["run_id"]
        files = sorted(output.glob(f"windows/dt=*/identifier=*/windows-*-{run[:8]}-*.parquet"))
        cgroups = busiest(files)
    except (OSError, ValueError, TypeError, LookupError, pl.exceptions.PolarsError) as error:
        stop(f"no closed files of `tracer run` in {sys.argv[1]!r} that can be read ({type(error).__name__})")

    sys.stdout.reconfigure(errors="backslashreplace")
    busy = cgroups.filter(pl.col("cgroup_kind") != "idle")
    share = busy["cpu_time_ns"].sum() / max(cgroups["cpu_time_ns"].sum(), 1)
    print(f"CPU time in use: {share:.1%}; cgroups that ran: {busy.height}; the busiest:\n")
    # What was not counted anywhere has no columns; waits take their place.
    counted = busy["instructions"].count() + busy["llc_misses"].count() > 0
    heads = f"{'CPI':>6} {'LLC MISSES':>13}" if counted else f"{'WAITED ms':>12}"
    print(f"{'CGROUP':{NAME_WIDTH}} {'CPU TIME ms':>12} {'SWITCHES':>10} {heads}")
    for row in busy.head(ROWS).iter_rows(named=True):
        cpi = f"{row['cycles'] / row['instructions']:.2f}" if row["cycles"] and row["instructions"] else "-"
        misses = "-" if row["llc_misses"] is None else f"{row['llc_misses']:,}"
        waited = "-" if row["wait_time_ns"] is None else f"{row['wait_time_ns'] / 1e6:,.1f}"
        figures = f"{cpi:>6} {misses:>13}" if counted else f"{waited:>12}"
        milliseconds = row["cpu_time_ns"] / 1e6
        print(f"{name(row):{NAME_WIDTH}} {milliseconds:>12,.1f} {row['context_switches']:>10,} {figures}")
    print("\nfrom", *files, f"about the run: {output / 'runs' / run / 'session.json'}", sep="\n  ")


if __name__ == "__main__":
    main()
