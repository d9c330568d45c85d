# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["polars>=1.20"]
# ///
"""The busiest cgroups of the newest run of each node in what `tracer run` wrote, or of another run: busiest.py DIR"""

import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import polars as pl

ROWS = 15
NAME_WIDTH = 32
TEXTS = ["cgroup_kind", "cgroup_path", "container_id", "container_name", "pod_name", "pod_uid", "namespace"]


def stop(said: str) -> NoReturn:
    """Ends as `tracer` does where something is not as it is needed: in one line, with 2."""
    print(said, file=sys.stderr)
    raise SystemExit(2)


def is_whole(path: Path) -> bool:
    """Whether it can be opened, and does not unfold to more than any run wrote; else it is left out, and named."""
    why = "no file"
    try:
        if path.is_file():
            rows = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
            why = f"{rows:,} rows" if rows > 2**18 + path.stat().st_size else ""
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        why = type(error).__name__
    if why:
        print(f"left out: {str(path)!r} ({why})", file=sys.stderr)
    return not why


def files(output: str, table: str) -> list[Path]:
    """Of the newest run of each node in DIR; of the run in DIR@RUN whose id begins so, or DIR@last; DIR@all: of all."""
    directory, _at, run = (output, "", "") if Path(output).exists() else output.rpartition("@")
    paths = Path(directory).glob(f"{table}/*/*/{table}-*-*-*.parquet")
    paths = sorted(paths, key=lambda path: path.name.split("-")[1])
    newest = {"" if run == "last" else path.parent.name: path.name.split("-")[2] for path in paths}
    wanted = {"": tuple(newest.values()), "last": tuple(newest.values()), "all": ""}.get(run, run[:8])
    return [path for path in paths if path.name.split("-")[2].startswith(wanted) and is_whole(path)]


def names(rows: pl.LazyFrame) -> pl.LazyFrame:
    """What to call each cgroup: docs/names.md, by the last names that it had; with the node if there are several."""
    key = ["node_name", "cgroup_id"]
    texts = [pl.col(text).cast(pl.String).drop_nulls().last().alias(text) for text in TEXTS]
    kind, path, container_id, container, pod_name, uid, namespace = map(pl.col, TEXTS)
    pod = pl.coalesce(namespace + "/" + pod_name, pod_name, "pod" + uid)
    container = pl.coalesce(container, container_id.str.head(12))
    is_other = kind.is_in(["sandbox", "monitor"]) | ((kind == "pod") & pod_name.is_not_null())
    other = pl.when(is_other).then(pl.coalesce(pod, container) + " (" + kind + ")")
    unit = pl.when(kind == "unit").then(path.str.replace_all(r"^/|[^/]+\.slice/", ""))
    number = "cgroup " + pl.col(key[1]).cast(pl.String)
    in_pod = pl.when(kind == "container").then(pod)
    name = pl.coalesce(other, pod + "/" + container, container, in_pod, unit, path, number)
    several = pl.col("node_name").n_unique() > 1
    on_node = pl.when(several).then(name + " on " + pl.col("node_name")).otherwise(name).alias("name")
    return rows.group_by(key).agg(texts).select(*key, on_node)


def shown(names: Iterable[str], width: int) -> dict[str, str]:
    """Each harmless and on one line, of a long one both ends, and with a number where two would be alike."""
    texts = {}
    for name in names:
        text, end, number = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name), "", 1
        while name not in texts:
            room = width - len(end)
            tail = (room - 1) // 2
            short = text if len(text) <= room else f"{text[: room - 1 - tail]}…{text[-tail:]}"
            if short + end not in texts.values():
                texts[name] = short + end
            number += 1
            end = f"#{number}"
    return texts


def busiest(paths: list[Path]) -> pl.DataFrame:
    """One row per cgroup, the busiest first; a counter that was not counted is null."""
    counters = pl.col("cycles", "instructions", "llc_misses", "wait_time_ns")
    rows = pl.concat(map(pl.scan_parquet, paths), how="diagonal_relaxed")
    # Version 1 had no waits.
    rows = rows if "wait_time_ns" in rows.collect_schema() else rows.with_columns(wait_time_ns=pl.lit(None, pl.Int64))
    return (
        rows.join(names(rows), on=["node_name", "cgroup_id"])
        .group_by("cgroup_id", "name")
        .agg(
            pl.col("cgroup_kind").cast(pl.String).drop_nulls().last(),
            pl.col("cpu_time_ns", "context_switches").sum(),
            pl.when(counters.is_not_null().any()).then(counters.sum()),
        )
        .sort("cpu_time_ns", descending=True)
        .collect()
    )


def main() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if len(sys.argv) != 2:
        stop("usage: busiest.py DIR")
    try:
        paths = files(sys.argv[1], "windows")
        cgroups = busiest(paths)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        stop(f"no closed files of `tracer run` in {sys.argv[1]!r} that can be read ({type(error).__name__})")

    sys.stdout.reconfigure(errors="backslashreplace")
    busy = cgroups.filter(pl.col("cgroup_kind") != "idle")
    share = busy["cpu_time_ns"].sum() / max(cgroups["cpu_time_ns"].sum(), 1)
    print(f"CPU time in use: {share:.1%}; cgroups that ran: {busy.height}; the busiest:\n")
    # What was not counted anywhere has no columns; waits take their place.
    counted = busy["instructions"].count() + busy["llc_misses"].count() > 0
    heads = f"{'CPI':>6} {'LLC MISSES':>13}" if counted else f"{'WAITED ms':>12}"
    print(f"{'CGROUP':{NAME_WIDTH}} {'CPU TIME ms':>12} {'SWITCHES':>10} {heads}")
    titles = shown(busy["name"].head(ROWS), NAME_WIDTH)
    for row in busy.head(ROWS).iter_rows(named=True):
        cpi = f"{row['cycles'] / row['instructions']:.2f}" if row["cycles"] and row["instructions"] else "-"
        misses = "-" if row["llc_misses"] is None else f"{row['llc_misses']:,}"
        waited = "-" if row["wait_time_ns"] is None else f"{row['wait_time_ns'] / 1e6:,.1f}"
        figures = f"{cpi:>6} {misses:>13}" if counted else f"{waited:>12}"
        milliseconds = row["cpu_time_ns"] / 1e6
        print(f"{titles[row['name']]:{NAME_WIDTH}} {milliseconds:>12,.1f} {row['context_switches']:>10,} {figures}")
    print("\nfrom", *paths, sep="\n  ")


if __name__ == "__main__":
    main()
