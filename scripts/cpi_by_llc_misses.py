# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["polars>=1.20"]
# ///
"""CPI by a container's own LLC misses and by those of its neighbours: cpi_by_llc_misses.py DIR [NAME]

One table for each of the busiest containers, or for those whose name has NAME in it. From top to bottom its own misses
per 1000 instructions grow, by fifths of its windows; from left to right those of its neighbours on the same LLC, by
thirds. What grows downwards is its own doing, what grows to the right is theirs. Without counters, the stretch (the
time that its tasks wanted a CPU by the time they had one) by the cores that it used itself, and that others used.
"""

import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import polars as pl

TABLES, TICK_NS = 3, 1_000_000
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
    counted = rows.filter(
        pl.col("instructions") > 0,
        pl.col("cycles").is_not_null(),
        pl.col("llc_misses", "neighbour_llc_misses").is_not_null(),
    )
    if counted.head(1).collect().height:
        return "CPI", counted.with_columns(
            cost=pl.col("cycles") * 1.0,
            work=pl.col("instructions") * 1.0,
            uses=pl.col("llc_misses") * 1e3,
            per=pl.col("instructions"),
            noise="neighbour_llc_misses",
        )
    cpu = pl.col("cpu_time_ns").cast(pl.Float64)
    waited = rows.filter(cpu > 0, pl.col("wait_time_ns").is_not_null())
    if not waited.head(1).collect().height:
        stop(NEITHER)
    return "STRETCH", waited.with_columns(
        cost=cpu + pl.col("wait_time_ns"),
        work=cpu,
        uses=cpu,
        per=pl.col("ticks") * TICK_NS,
        noise="neighbour_cpu_time_ns",
    )


def load(output: str) -> tuple[str, pl.DataFrame]:
    """What is measured, and a row for each container and window in which it was."""
    what, windows = measure(scan(output, "windows"))
    sums = pl.col("cost", "work", "uses", "per", "noise").cast(pl.Float64).sum()
    rows = windows.join(names(windows), on=["node_name", "cgroup_id"]).group_by("node_name", "window_start", "name")
    rows = rows.agg(sums)
    return what, rows.with_columns(own=pl.col("uses") / pl.col("per")).collect()


def equal_parts(column: str, parts: int) -> pl.Expr:
    """1 for the rows with the least of `column`, and so on: as many rows in each part."""
    return (pl.col(column).rank("ordinal") * parts / pl.len()).ceil().cast(pl.Int32)


def cpi_table(windows: pl.DataFrame) -> pl.DataFrame:
    """A row for each fifth of the own misses (CPU time), with the CPI (stretch) in each third of the neighbours'."""
    parts = windows.with_columns(fifth=equal_parts("own", 5), third=equal_parts("noise", 3))
    cells = [pl.col("cost", "work").filter(pl.col("third") == third).sum() for third in (1, 2, 3)]
    cpi = [cell.name.suffix(f"_{third}") for third, cell in enumerate(cells, 1)]
    fifths = parts.group_by("fifth").agg(pl.min("own").alias("least"), pl.max("own").alias("most"), *cpi).sort("fifth")
    return fifths.select("least", "most", *(pl.col(f"cost_{n}") / pl.col(f"work_{n}") for n in (1, 2, 3)))


def main() -> None:
    if len(sys.argv) not in (2, 3):
        stop("usage: cpi_by_llc_misses.py DIR [NAME]")
    try:
        what, rows = load(sys.argv[1])
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        stop(f"no windows of `tracer run` in {sys.argv[1]!r} that can be read ({type(error).__name__})")
    own, noise = ("OWN MISSES/1000", "NEIGHBOURS MISS LITTLE") if what == "CPI" else ("OWN CORES", "OTHERS USE LITTLE")
    sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    busiest = rows.group_by("name").agg(pl.sum("cost")).sort("cost", descending=True)["name"].to_list()
    chosen = [name for name in busiest if sys.argv[2] in name] if len(sys.argv) == 3 else busiest[:TABLES]
    if not chosen:
        stop(
            f"no container with {sys.argv[2]!r} in its name; the busiest: {', '.join(shown(busiest[:10], 50).values())}"
        )
    for name, title in shown(chosen, 50).items():
        windows = rows.filter(pl.col("name") == name)
        print(f"{title}: {what} {windows['cost'].sum() / windows['work'].sum():.2f}")
        print(f"{own:>18}  {noise:>22} {'MIDDLING':>12} {'MUCH':>12}")
        for least, most, *cells in cpi_table(windows).iter_rows():
            little, middling, much = ("-" if cell != cell else f"{cell:.2f}" for cell in cells)
            print(f"{f'{least:.2f} .. {most:.2f}':>18}  {little:>22} {middling:>12} {much:>12}")
        print()


if __name__ == "__main__":
    main()
