# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["polars>=1.20"]
# ///
"""How much slower each container is while its neighbours are noisy: noisy_neighbours.py DIR

Noisy are the tenth of its windows in which others on the same LLC missed most, quiet the half in which they missed
least, compared at equal own work: by fifths of its instructions. The suspect is who has most of the misses that noisy
windows have beyond quiet ones. It may be harmless: `tracer report` looks closer. Without counters, CPU time stands for
misses and instructions, and for the CPI the stretch: the time that its tasks wanted a CPU by the time they had one.
"""

import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import polars as pl

ROWS, WINDOW = 20, ["node_name", "window_start"]
SUMS = ["cost", "work", "own", "noise"]
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
        return "CPI", counted.with_columns(
            cost=pl.col("cycles") * 1.0,
            work=pl.col("instructions") * 1.0,
            own="llc_misses",
            noise="neighbour_llc_misses",
        )
    cpu = pl.col("cpu_time_ns").cast(pl.Float64)
    waited = rows.filter(cpu > 0, pl.col("wait_time_ns").is_not_null())
    if not waited.head(1).collect().height:
        stop(NEITHER)
    return "STRETCH", waited.with_columns(
        cost=cpu + pl.col("wait_time_ns"), work=cpu, own=cpu, noise="neighbour_cpu_time_ns"
    )


def load(output: str) -> tuple[str, pl.DataFrame]:
    """What is measured, and a row for each container and window, `noisy`, `quiet` or neither."""
    what, windows = measure(scan(output, "windows"))
    rows = windows.join(names(windows), on=["node_name", "cgroup_id"]).group_by(*WINDOW, "name")
    rows = rows.agg(pl.col(SUMS).cast(pl.Float64).sum()).collect()
    noise = pl.col("noise")
    return what, rows.with_columns(
        noisy=(noise > noise.quantile(0.9)).over("name"),
        quiet=(noise <= noise.median()).over("name"),
        fifth=(pl.col("work").rank("ordinal") * 5 / pl.len()).ceil().over("name"),
    )


def slowdown(rows: pl.DataFrame) -> pl.DataFrame:
    """CPI or stretch of each container in its noisy windows, and what its quiet ones have at the same work."""
    noisy, quiet = (pl.col("cost", "work").filter(pl.col(kind)).sum() for kind in ("noisy", "quiet"))
    fifths = rows.group_by("name", "fifth").agg(noisy, quiet.name.suffix("_quiet"))
    fifths = fifths.filter(pl.col("work") > 0, pl.col("work_quiet") > 0)
    at_same_work = pl.col("cost_quiet") / pl.col("work_quiet") * pl.col("work")
    noisy, quiet = pl.sum("cost") / pl.sum("work"), at_same_work.sum() / pl.sum("work")
    return fifths.group_by("name").agg(noisy=noisy, quiet=quiet)


def suspects(rows: pl.DataFrame) -> pl.DataFrame:
    """Of each container, the other with most of the misses that noisy windows have beyond quiet ones, and its share."""
    pairs = rows.join(rows.select(*WINDOW, suspect="name", misses="own"), on=WINDOW)
    kinds = [pl.col("misses").filter(pl.col(kind)).sum().alias(kind) for kind in ("noisy", "quiet")]
    sums = pairs.filter(pl.col("name") != pl.col("suspect")).group_by("name", "suspect").agg(kinds)
    sums = sums.join(rows.group_by("name").agg(pl.sum("noisy", "quiet")), on="name", suffix="_windows")
    beyond = pl.col("noisy") / pl.col("noisy_windows") - pl.col("quiet") / pl.col("quiet_windows")
    sums = sums.with_columns(beyond=beyond).filter(pl.col("beyond") > 0)
    shares = sums.select("name", "suspect", share=pl.col("beyond") / pl.sum("beyond").over("name"))
    return shares.sort("share").group_by("name").last()


def main() -> None:
    output = sys.argv[1] if len(sys.argv) == 2 else stop("usage: noisy_neighbours.py DIR")
    try:
        what, rows = load(output)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        stop(f"no windows of `tracer run` in {output!r} that can be read ({type(error).__name__})")
    sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    found = slowdown(rows).join(suspects(rows), on="name", how="left").sort(pl.col("quiet") / pl.col("noisy"))
    # It is on the same node.
    found = found.with_columns(pl.col("suspect").str.replace(r" on \S+$", ""))
    print(f"{'CONTAINER':25} {f'{what} QUIET':>13} {'NOISY':>6} {'MORE':>7}  SUSPECT")
    victims, causes = shown(found["name"].head(ROWS), 25), shown(found["suspect"].head(ROWS).drop_nulls(), 19)
    for name, noisy, quiet, suspect, share in found.head(ROWS).iter_rows():
        more, who = noisy / quiet - 1, f"{causes[suspect]} {share:.0%}" if suspect else "-"
        print(f"{victims[name]:25} {quiet:>13.2f} {noisy:>6.2f} {more:>+7.1%}  {who}")


if __name__ == "__main__":
    main()
