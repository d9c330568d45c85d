# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["polars>=1.20"]
# ///
"""Where each container's time went, and behind whom it waited for a CPU: who_waited.py DIR

In per cent of the recorded time: a task that is ready to run all the time makes 100. RAN is CPU time without what the
hypervisor and interrupts took (STOLEN); of the wait, OTHERS, SELF, IDLE and LIMIT are who had the CPU meanwhile: other
containers, its own threads, nobody, or nobody because of its own limit. `tracer report` says who had too little.
"""

import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import polars as pl

ROWS, TICK_NS = 12, 1_000_000
WINDOW = ["node_name", "window_start"]
PARTS = {
    "RAN": pl.col("cpu_time_ns") - pl.col("stolen_time_ns").fill_null(0),
    "OTHERS": pl.col("wait_behind_others_ns"),
    "SELF": pl.col("wait_behind_self_ns"),
    "IDLE": pl.col("wait_idle_ns"),
    "LIMIT": pl.col("wait_throttled_ns"),
    "STOLEN": pl.col("stolen_time_ns"),
}
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


def names(rows: pl.LazyFrame, of: str = "") -> pl.LazyFrame:
    """What to call each cgroup: docs/names.md, by the last names that it had; with the node if there are several."""
    key = ["node_name", f"{of}cgroup_id"]
    texts = [pl.col(of + text).cast(pl.String).drop_nulls().last().alias(text) for text in TEXTS]
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
    on_node = pl.when(several).then(name + " on " + pl.col("node_name")).otherwise(name).alias(f"{of}name")
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
    return pl.concat(map(pl.scan_parquet, files(output, table)), how="diagonal_relaxed")


def load(output: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """By container the parts of its time; by container and holder the wait; both as shares of the recorded time."""
    windows = scan(output, "windows")
    missing = {"wait_throttled_ns", "stolen_time_ns"} - set(windows.collect_schema())
    windows = windows.with_columns(pl.lit(None, pl.Int64).alias(column) for column in missing)
    windows = windows.filter(pl.col("wait_time_ns").is_not_null())
    # Rows that came late have the same key. A tick is as long as most windows say.
    each = windows.group_by(*WINDOW, "window_tick").agg(pl.max("ticks")).sort("window_start")
    tick = pl.col("window_start").diff().dt.total_nanoseconds() / pl.col("window_tick").diff()
    recorded = each.group_by("node_name").agg(time=pl.sum("ticks") * tick.median().fill_null(TICK_NS))
    time = pl.col("time").first()
    running = windows.filter(pl.col("cgroup_kind") != "idle").join(recorded, on="node_name")
    running = running.join(names(windows), on=["node_name", "cgroup_id"])
    spent = running.group_by("node_name", "name").agg((part.sum() / time).alias(title) for title, part in PARTS.items())
    # Without idle CPUs, and without the smaller holders together.
    waits = scan(output, "waits").filter(pl.col("holder_cgroup_id") != 0).join(recorded, on="node_name")
    waits = waits.join(names(windows), on=["node_name", "cgroup_id"])
    waits = waits.join(names(waits, "holder_"), on=["node_name", "holder_cgroup_id"])
    behind = waits.group_by("node_name", "name", "holder_name").agg(wait=pl.sum("wait_time_ns") / time)
    return spent.sort("OTHERS", descending=True).collect(), behind.sort("wait", descending=True).collect()


def main() -> None:
    output = sys.argv[1] if len(sys.argv) == 2 else stop("usage: who_waited.py DIR")
    try:
        spent, behind = load(output)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        stop(f"no waits of `tracer run` (without --waits off) in {output!r} that can be read ({type(error).__name__})")
    sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    print(f"{'CONTAINER':28}" + "".join(f"{title:>8}" for title in PARTS))
    behind = behind.filter(pl.col("name") != pl.col("holder_name")).head(ROWS)
    titles = shown([*spent["name"].head(ROWS), *behind["name"], *behind["holder_name"]], 28)
    for row in spent.head(ROWS).iter_rows(named=True):
        print(f"{titles[row['name']]:28}" + "".join(f"{round(100 * row[title], 1) + 0.0:8.1f}" for title in PARTS))
    print(f"\n{'CONTAINER':28} {'WAITED':>7}  BEHIND")
    for row in behind.iter_rows(named=True):
        print(f"{titles[row['name']]:28} {100 * row['wait']:6.1f}%  {titles[row['holder_name']]}")


if __name__ == "__main__":
    main()
