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


def name(of: str = "") -> pl.Expr:
    """pod/container or else the path, without characters that a terminal would obey."""
    names = pl.concat_str(f"{of}pod_name", f"{of}container_name", separator="/", ignore_nulls=True).replace("", None)
    known = pl.coalesce(names, f"{of}cgroup_path", f"{of}cgroup_kind").cast(pl.String).fill_null("unknown")
    return known.str.replace_all(r"[\p{C}\p{Zl}\p{Zp}]", "?").alias(f"{of}name")


def stop(said: str) -> NoReturn:
    """Ends as `tracer` does where something is not as it is needed: in one line, with 2."""
    print(said, file=sys.stderr)
    raise SystemExit(2)


def files(output: str, table: str) -> list[Path]:
    """Of the newest run of each node in DIR; of the run in DIR@RUN whose id begins so, or DIR@last; DIR@all: of all."""
    directory, _at, run = (output, "", "") if Path(output).exists() else output.rpartition("@")
    paths = sorted(Path(directory).glob(f"{table}/*/*/*.parquet"), key=lambda path: path.name.split("-")[1])
    newest = {"" if run == "last" else path.parent.name: path.name.split("-")[2] for path in paths}
    wanted = {"": tuple(newest.values()), "last": tuple(newest.values()), "all": ""}.get(run, run[:8])
    return [path for path in paths if path.name.split("-")[2].startswith(wanted)]


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
    spent = running.group_by("node_name", name()).agg((part.sum() / time).alias(title) for title, part in PARTS.items())
    # Without idle CPUs, and without the smaller holders together.
    waits = scan(output, "waits").filter(pl.col("holder_cgroup_id") != 0).join(recorded, on="node_name")
    behind = waits.group_by("node_name", name(), name("holder_")).agg(wait=pl.sum("wait_time_ns") / time)
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
    for row in spent.head(ROWS).iter_rows(named=True):
        print(f"{row['name'][-28:]:28}" + "".join(f"{100 * row[title]:8.1f}" for title in PARTS))
    print(f"\n{'CONTAINER':28} {'WAITED':>7}  BEHIND")
    for row in behind.filter(pl.col("name") != pl.col("holder_name")).head(ROWS).iter_rows(named=True):
        print(f"{row['name'][-28:]:28} {100 * row['wait']:6.1f}%  {row['holder_name'][-28:]}")


if __name__ == "__main__":
    main()
