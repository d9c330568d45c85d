# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["polars>=1.20"]
# ///
"""How much slower each container is while its neighbours are noisy: noisy_neighbours.py DIR

Noisy are the tenth of its windows in which others on the same LLC missed most, quiet the half in which they missed
least, compared at equal own work: by fifths of its instructions. The suspect is who has most of the misses that noisy
windows have beyond quiet ones. It may be harmless: `tracer report` looks closer.
"""

import signal
import sys
from pathlib import Path

import polars as pl

ROWS, WINDOW = 20, ["node_name", "window_start"]
COUNTERS = ["cycles", "instructions", "llc_misses", "neighbour_llc_misses"]
# pod/container or else the path, without characters that a terminal would obey.
NAMES = pl.concat_str("pod_name", "container_name", separator="/", ignore_nulls=True).replace("", None)
NAME = pl.coalesce(NAMES, "cgroup_path").fill_null("unknown").str.replace_all(r"[\p{C}\p{Zl}\p{Zp}]", "?").alias("name")


def files(output: str, table: str) -> list[Path]:
    """Of the newest run of each node in DIR; of the run in DIR@RUN whose id begins so, or DIR@last; DIR@all: of all."""
    directory, _at, run = (output, "", "") if Path(output).exists() else output.rpartition("@")
    paths = sorted(Path(directory).glob(f"{table}/*/*/*.parquet"), key=lambda path: path.name.split("-")[1])
    newest = {"" if run == "last" else path.parent.name: path.name.split("-")[2] for path in paths}
    wanted = {"": tuple(newest.values()), "last": tuple(newest.values()), "all": ""}.get(run, run[:8])
    return [path for path in paths if path.name.split("-")[2].startswith(wanted)]


def load(output: str) -> pl.DataFrame:
    """A row for each container and window in which it was counted, `noisy`, `quiet` or neither."""
    windows = pl.concat(map(pl.scan_parquet, files(output, "windows")), how="diagonal_relaxed")
    counted = windows.filter(pl.col("cgroup_kind").cast(pl.String) != "idle", pl.col("instructions") > 0)
    rows = counted.group_by(*WINDOW, NAME).agg(pl.col(COUNTERS).cast(pl.Float64).sum()).collect()
    noise = pl.col("neighbour_llc_misses")
    return rows.with_columns(
        noisy=(noise > noise.quantile(0.9)).over("name"),
        quiet=(noise <= noise.median()).over("name"),
        fifth=(pl.col("instructions").rank("ordinal") * 5 / pl.len()).ceil().over("name"),
    )


def slowdown(rows: pl.DataFrame) -> pl.DataFrame:
    """CPI of each container in its noisy windows, and what its quiet ones have at the same work."""
    noisy, quiet = (pl.col("cycles", "instructions").filter(pl.col(kind)).sum() for kind in ("noisy", "quiet"))
    fifths = rows.group_by("name", "fifth").agg(noisy, quiet.name.suffix("_quiet"))
    fifths = fifths.filter(pl.col("instructions") > 0, pl.col("instructions_quiet") > 0)
    at_same_work = pl.col("cycles_quiet") / pl.col("instructions_quiet") * pl.col("instructions")
    noisy, quiet = pl.sum("cycles") / pl.sum("instructions"), at_same_work.sum() / pl.sum("instructions")
    return fifths.group_by("name").agg(noisy=noisy, quiet=quiet)


def suspects(rows: pl.DataFrame) -> pl.DataFrame:
    """Of each container, the other with most of the misses that noisy windows have beyond quiet ones, and its share."""
    pairs = rows.join(rows.select(*WINDOW, suspect="name", misses="llc_misses"), on=WINDOW)
    kinds = [pl.col("misses").filter(pl.col(kind)).sum().alias(kind) for kind in ("noisy", "quiet")]
    sums = pairs.filter(pl.col("name") != pl.col("suspect")).group_by("name", "suspect").agg(kinds)
    sums = sums.join(rows.group_by("name").agg(pl.sum("noisy", "quiet")), on="name", suffix="_windows")
    beyond = pl.col("noisy") / pl.col("noisy_windows") - pl.col("quiet") / pl.col("quiet_windows")
    sums = sums.with_columns(beyond=beyond).filter(pl.col("beyond") > 0)
    shares = sums.select("name", "suspect", share=pl.col("beyond") / pl.sum("beyond").over("name"))
    return shares.sort("share").group_by("name").last()


def main() -> None:
    output = sys.argv[1] if len(sys.argv) == 2 else sys.exit("usage: noisy_neighbours.py DIR")
    try:
        rows = load(output)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        sys.exit(f"no windows of `tracer run` in {output!r} that can be read ({type(error).__name__})")
    if rows.is_empty():
        sys.exit("cycles and instructions were not counted in these files (no PMU?): nothing is known of the CPI")
    sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    found = slowdown(rows).join(suspects(rows), on="name", how="left").sort(pl.col("quiet") / pl.col("noisy"))
    print(f"{'CONTAINER':28} {'CPI QUIET':>9} {'NOISY':>6} {'MORE':>7}  SUSPECT")
    for name, noisy, quiet, suspect, share in found.head(ROWS).iter_rows():
        more, who = noisy / quiet - 1, f"{suspect[-19:]} {share:.0%}" if suspect else "-"
        print(f"{name[-28:]:28} {quiet:>9.2f} {noisy:>6.2f} {more:>+7.1%}  {who}")


if __name__ == "__main__":
    main()
