# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["polars>=1.20"]
# ///
"""CPI by a container's own LLC misses and by those of its neighbours: cpi_by_llc_misses.py DIR [NAME]

One table for each of the busiest containers, or for those whose name has NAME in it. From top to bottom its own misses
per 1000 instructions grow, by fifths of its windows; from left to right those of its neighbours on the same LLC, by
thirds. What grows downwards is its own doing, what grows to the right is theirs.
"""

import signal
import sys
from pathlib import Path

import polars as pl

TABLES = 3
# pod/container or else the path, without characters that a terminal would obey.
NAMES = pl.concat_str("pod_name", "container_name", separator="/", ignore_nulls=True).replace("", None)
NAME = pl.coalesce(NAMES, "cgroup_path").fill_null("unknown").str.replace_all(r"[\p{C}\p{Zl}\p{Zp}]", "?").alias("name")
COUNTERS = ["cycles", "instructions", "llc_misses", "neighbour_llc_misses"]


def files(output: str, table: str) -> list[Path]:
    """Of the newest run of each node in DIR; of the run in DIR@RUN whose id begins so, or DIR@last; DIR@all: of all."""
    directory, _at, run = (output, "", "") if Path(output).exists() else output.rpartition("@")
    paths = sorted(Path(directory).glob(f"{table}/*/*/*.parquet"), key=lambda path: path.name.split("-")[1])
    newest = {"" if run == "last" else path.parent.name: path.name.split("-")[2] for path in paths}
    wanted = {"": tuple(newest.values()), "last": tuple(newest.values()), "all": ""}.get(run, run[:8])
    return [path for path in paths if path.name.split("-")[2].startswith(wanted)]


def load(output: str) -> pl.DataFrame:
    """A row for each container and window in which everything was counted."""
    windows = pl.concat(map(pl.scan_parquet, files(output, "windows")), how="diagonal_relaxed")
    counted = pl.all_horizontal(pl.col(COUNTERS).is_not_null())
    return (
        windows.filter(pl.col("cgroup_kind").cast(pl.String) != "idle", counted, pl.col("instructions") > 0)
        .group_by("node_name", "window_start", NAME)
        .agg(pl.col(COUNTERS).cast(pl.Float64).sum())
        .with_columns(own=pl.col("llc_misses") / pl.col("instructions") * 1000)
        .collect()
    )


def equal_parts(column: str, parts: int) -> pl.Expr:
    """1 for the rows with the least of `column`, and so on: as many rows in each part."""
    return (pl.col(column).rank("ordinal") * parts / pl.len()).ceil().cast(pl.Int32)


def cpi_table(windows: pl.DataFrame) -> pl.DataFrame:
    """A row for each fifth of the own misses, with the CPI in each third of the neighbours'."""
    parts = windows.with_columns(fifth=equal_parts("own", 5), third=equal_parts("neighbour_llc_misses", 3))
    cells = [pl.col("cycles", "instructions").filter(pl.col("third") == third).sum() for third in (1, 2, 3)]
    cpi = [cell.name.suffix(f"_{third}") for third, cell in enumerate(cells, 1)]
    fifths = parts.group_by("fifth").agg(pl.min("own").alias("least"), pl.max("own").alias("most"), *cpi).sort("fifth")
    return fifths.select("least", "most", *(pl.col(f"cycles_{n}") / pl.col(f"instructions_{n}") for n in (1, 2, 3)))


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: cpi_by_llc_misses.py DIR [NAME]")
    try:
        rows = load(sys.argv[1])
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        sys.exit(f"no windows of `tracer run` in {sys.argv[1]!r} that can be read ({type(error).__name__})")
    if rows.is_empty():
        sys.exit("cycles, instructions or LLC misses were not counted in these files (no PMU?): no CPI by misses")
    sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    busiest = rows.group_by("name").agg(pl.sum("cycles")).sort("cycles", descending=True)["name"].to_list()
    shown = [name for name in busiest if sys.argv[2] in name] if len(sys.argv) == 3 else busiest[:TABLES]
    if not shown:
        sys.exit(f"no container with {sys.argv[2]!r} in its name; the busiest: {', '.join(busiest[:10])}")
    for name in shown:
        windows = rows.filter(pl.col("name") == name)
        print(f"{name[-50:]}: CPI {windows['cycles'].sum() / windows['instructions'].sum():.2f}")
        print(f"{'OWN MISSES/1000':>18}  {'NEIGHBOURS MISS LITTLE':>22} {'MIDDLING':>12} {'MUCH':>12}")
        for least, most, *cells in cpi_table(windows).iter_rows():
            little, middling, much = ("-" if cell != cell else f"{cell:.2f}" for cell in cells)
            print(f"{f'{least:.2f} .. {most:.2f}':>18}  {little:>22} {middling:>12} {much:>12}")
        print()


if __name__ == "__main__":
    main()
