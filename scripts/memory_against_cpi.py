# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["polars>=1.20"]
# ///
"""Does a container's CPI follow its memory? memory_against_cpi.py DIR

By seconds: the CPI in the quarter of them with the smallest working set and in that with the largest, and how well it
goes with the working set and with waiting for memory (r, the correlation of ranks, -1 to 1). What goes with neither was
slowed by something else. Needs `resources`, of which a row tells of the second before it, and the memory controller.
Without counters, the stretch: the time that its tasks wanted a CPU by the time they had one.
"""

import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import polars as pl

ROWS, LEAST_SECONDS, ID = 20, 8, pl.col("cgroup_id").cast(pl.Int64)
KEY = ["node_name", "cgroup_id", "second"]
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


def load(output: str) -> tuple[str, pl.DataFrame, pl.DataFrame]:
    """What is measured; by cgroup and second that, and the working set in MiB and how long tasks waited for memory."""
    what, ran = measure(scan(output, "windows"))
    resources = scan(output, "resources")
    seconds = ran.join(names(ran), on=KEY[:2]).group_by(
        *KEY[:2], "name", pl.col("window_start").dt.truncate("1s").alias("second")
    )
    memory = resources.sort("time").select(
        *KEY[:2],
        second=pl.col("time").dt.offset_by("-500ms").dt.truncate("1s"),
        memory=pl.col("memory_working_set_bytes") / 2**20,
        waited=pl.col("memory_pressure_some_total_usec").cast(pl.Int64).diff().over(KEY[:2]).fill_null(0),
    )
    sums = seconds.agg(pl.sum("cost", "work"))
    return what, sums.collect(), memory.drop_nulls().unique(KEY).collect()


def by_container(seconds: pl.DataFrame) -> pl.DataFrame:
    """A row for each container that ran in enough seconds, the busiest first."""
    memory, cpi = pl.col("memory"), pl.col("cost") / pl.col("work")
    small, large = (
        pl.col("cost").filter(part).sum() / pl.col("work").filter(part).sum()
        for part in (memory <= memory.quantile(0.25), memory >= memory.quantile(0.75))
    )
    correlations = [pl.corr(cpi, column, method="spearman").alias(f"r_{column}") for column in ("memory", "waited")]
    sums = [memory.min().alias("least"), memory.max().alias("most"), small.alias("small"), large.alias("large")]
    enough = seconds.filter(pl.len().over("name") >= LEAST_SECONDS).group_by("name")
    return enough.agg(*sums, *correlations, pl.sum("cost")).sort("cost", descending=True)


def main() -> None:
    output = sys.argv[1] if len(sys.argv) == 2 else stop("usage: memory_against_cpi.py DIR")
    try:
        what, cpi, memory = load(output)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        stop(f"no windows or resources of `tracer run` in {output!r} can be read ({type(error).__name__})")
    rows = by_container(cpi.with_columns(ID).join(memory.with_columns(ID), on=KEY))
    if rows.is_empty():
        stop(
            f"no container ran in {LEAST_SECONDS} seconds of which its memory is known: record for longer, on a node "
            "with the memory controller"
        )
    sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    print(f"{'':28} {'WORKING SET':>13}  {f'{what} WHEN':>15}  {f'r OF {what}':>15}")
    print(f"{'CONTAINER':28} {'MiB':>13}  {'SMALL':>7} {'LARGE':>7}  {'MEMORY':>7} {'WAITS':>7}")
    titles = shown(rows["name"].head(ROWS), 28)
    for name, least, most, small, large, *correlations, _cost in rows.head(ROWS).iter_rows():
        memory, waits = ("-" if r is None or r != r else f"{r:+.2f}" for r in correlations)
        size = f"{least:.0f} .. {most:.0f}"
        print(f"{titles[name]:28} {size:>13}  {small:>7.2f} {large:>7.2f}  {memory:>7} {waits:>7}")


if __name__ == "__main__":
    main()
