# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["polars>=1.20"]
# ///
"""How often a container has which CPI: cpi_histogram.py DIR [NAME]

Of the busiest container, or of all with NAME in their name together. A bar is the share of its instructions that were
executed at such a CPI, so that an idle moment weighs little. By milliseconds where `tracer run --ticks` recorded them,
else by windows. A long tail to the end is what a container that is disturbed now and then looks like. Without counters,
of the stretch by CPU time: the time that its tasks wanted a CPU by the time they had one.
"""

import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import polars as pl

BINS, BAR_WIDTH = 20, 50
NEITHER = "neither cycles (no PMU?) nor waits were recorded: leave `tracer run --waits on`, and see `tracer doctor`"
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


def scan(output: str, table: str) -> pl.LazyFrame:
    """All of a table; version 1 had no waits."""
    rows = pl.concat(map(pl.scan_parquet, files(output, table)), how="diagonal_relaxed")
    return rows if "wait_time_ns" in rows.collect_schema() else rows.with_columns(wait_time_ns=pl.lit(None, pl.Int64))


def measure(rows: pl.LazyFrame) -> tuple[str, pl.LazyFrame]:
    """`cost` by `work` is the CPI; without counters the STRETCH, the time that tasks wanted a CPU by that they had."""
    rows = rows.filter(pl.col("cgroup_kind").cast(pl.String) != "idle")
    counted = rows.filter(pl.col("instructions") > 0, pl.col("cycles").is_not_null())
    if counted.head(1).collect().height:
        return "CPI", counted.with_columns(cost=pl.col("cycles") * 1.0, work=pl.col("instructions") * 1.0)
    cpu = pl.col("cpu_time_ns").cast(pl.Float64)
    waited = rows.filter(cpu > 0, pl.col("wait_time_ns").is_not_null())
    if not waited.head(1).collect().height:
        stop(NEITHER)
    return "STRETCH", waited.with_columns(cost=cpu + pl.col("wait_time_ns"), work=cpu)


def load(output: str) -> tuple[str, str, pl.LazyFrame]:
    """What is measured, what is one row's time, and the rows in which it was."""
    has_ticks = files(output, "ticks")
    table, time = ("ticks", "tick_start") if has_ticks else ("windows", "window_start")
    what, rows = measure(scan(output, table))
    rows = rows.join(names(rows), on=["node_name", "cgroup_id"])
    return what, table, rows.select("node_name", pl.col(time).alias("time"), "name", "cost", "work")


def histogram(rows: pl.LazyFrame) -> pl.DataFrame:
    """`cpi` where a bin begins, and its share of all work; the outer bins have what is beyond too."""
    times = rows.group_by("node_name", "time").agg(pl.sum("cost", "work"))
    values = times.with_columns(cpi=pl.col("cost") / pl.col("work")).sort("cpi").collect()
    below = values["work"].cum_sum() / values["work"].sum()
    low, high = values.filter(below >= 0.002)["cpi"][0], values.filter(below >= 0.998)["cpi"][0]
    width = (high - low) / BINS or 1.0
    number = ((pl.col("cpi") - low) / width).floor().clip(0, BINS - 1)
    shares = values.group_by(number.alias("bin")).agg(share=pl.sum("work") / values["work"].sum())
    bins = pl.DataFrame({"bin": [float(number) for number in range(BINS)]})
    return bins.join(shares, on="bin", how="left").select(
        cpi=low + pl.col("bin") * width, share=pl.col("share").fill_null(0)
    )


def main() -> None:
    if len(sys.argv) not in (2, 3):
        stop("usage: cpi_histogram.py DIR [NAME]")
    try:
        what, table, rows = load(sys.argv[1])
        sums = rows.group_by("name").agg(pl.sum("cost", "work")).collect()
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        stop(f"no windows of `tracer run` in {sys.argv[1]!r} that can be read ({type(error).__name__})")
    busiest = sums.sort("cost", descending=True)
    chosen = (
        busiest.filter(pl.col("name").str.contains(sys.argv[2], literal=True))
        if len(sys.argv) == 3
        else busiest.head(1)
    )
    if chosen.is_empty():
        there = ", ".join(shown(busiest["name"].head(10), 50).values())
        stop(f"no container with {sys.argv[2]!r} in its name; the busiest: {there}")
    sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    bins = histogram(rows.filter(pl.col("name").is_in(chosen["name"].to_list())))
    who = shown(chosen["name"], 50)[chosen["name"][0]] if chosen.height == 1 else f"{chosen.height} containers"
    print(f"{who}: {what} {chosen['cost'].sum() / chosen['work'].sum():.2f}, by {table}\n")
    print(f"{f'FROM {what}':>12}  {'INSTRUCTIONS' if what == 'CPI' else 'CPU TIME'}")
    for cpi, share in bins.iter_rows():
        print(f"{cpi:>12.2f} {share:>7.1%}  {'#' * round(share / bins['share'].max() * BAR_WIDTH)}".rstrip())


if __name__ == "__main__":
    main()
