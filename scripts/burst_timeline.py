# SPDX-License-Identifier: Apache-2.0
# /// script
# requires-python = ">=3.11"
# dependencies = ["polars>=1.20"]
# ///
"""Tick by tick, who was in the greatest burst of memory traffic, and whom it slowed down: burst_timeline.py DIR [NAME]

It is around the 10 ticks with the most LLC misses; a letter is a container's share of them, 64 bytes a miss. The CPI is
that of the container with NAME in its name, or the one that rises most. Without counters, it is around the ticks of
most waiting for a CPU; letters share CPU time, and for the CPI stands the stretch of the one that waited most: the time
that its tasks wanted a CPU by the time they had one.
"""

import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import polars as pl

BURST, AROUND, BAR_WIDTH = 10, 15, 45  # ticks, ticks, characters
NODE = pl.col("node_name").cast(pl.String)
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


def load(output: str) -> tuple[bool, pl.DataFrame]:
    """Whether misses were counted, and a row for each container and tick around the burst; `traffic` in bytes or ns."""
    ticks = pl.concat(map(pl.scan_parquet, files(output, "ticks")), how="diagonal_relaxed")
    if "wait_time_ns" not in ticks.collect_schema():
        ticks = ticks.with_columns(wait_time_ns=pl.lit(None, pl.Int64))
    rows = ticks.filter(pl.col("cgroup_kind").cast(pl.String) != "idle")
    counted = rows.select(pl.col("llc_misses").is_not_null().any()).collect().item()
    traffic = (pl.col("llc_misses") * 64.0 if counted else pl.col("cpu_time_ns") * 1.0).sum().alias("traffic")
    cpu = pl.col("cpu_time_ns").cast(pl.Int64)
    ratio = (pl.col("cycles"), pl.col("instructions")) if counted else (cpu + pl.col("wait_time_ns"), cpu)
    ratio = [pl.when(ratio[0].is_not_null()).then(part) for part in ratio]
    # Kernel threads wait too, but are not whom it is about.
    waits = pl.col("wait_time_ns").filter(pl.col("cgroup_path").cast(pl.String).ne_missing("/")).sum()
    heights = rows.group_by(NODE, "tick").agg(traffic, height=traffic if counted else waits + traffic / 1e3)
    heights = heights.sort("node_name", "tick").collect()
    highest = heights["height"].rolling_sum(min(BURST, heights.height)).arg_max()
    node, tick = heights.select("node_name", "tick").row(highest)
    near = rows.filter(node == NODE, pl.col("tick").is_between(max(0, tick + 1 - BURST - AROUND), tick + AROUND))
    near = near.join(names(ticks), on=["node_name", "cgroup_id"])
    sums = near.group_by("tick_start", "name").agg(traffic, cost=ratio[0].sum(), work=ratio[1].sum())
    return counted, sums.sort("tick_start").collect()


def slowed(rows: pl.DataFrame, burster: str, high: float) -> str:
    """Whose CPI rises most in ticks of more traffic than `high`, of those who ran in some of them and in others."""
    of_high = rows.with_columns(high=pl.sum("traffic").over("tick_start") > high).filter(pl.col("name") != burster)
    cpi = of_high.group_by("name", "high").agg(cpi=pl.sum("cost") / pl.sum("work"), ticks=pl.len())
    rises = cpi.filter(pl.col("ticks") >= 3).sort("high").group_by("name").agg(pl.col("cpi").diff().last())
    return rises.filter(pl.col("cpi").is_finite()).sort("cpi")["name"].last() or "nobody"


def bar(tick: pl.DataFrame, letters: dict[str, str], largest: float) -> str:
    """`AAAB..`: as long as the tick's traffic is of the largest one's; a dot is somebody without a letter."""
    text, total = "", 0.0
    for letter, traffic in sorted((letters.get(name, "~"), traffic) for _, name, traffic in tick.iter_rows()):
        total += traffic
        text += letter.replace("~", ".") * (round(total / largest * BAR_WIDTH) - len(text))
    return text


def main() -> None:
    output, *wanted = sys.argv[1:3] or stop("usage: burst_timeline.py DIR [NAME]")
    try:
        counted, rows = load(output)
    except (OSError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
        stop(f"no ticks of `tracer run --ticks` in {output!r} that can be read ({type(error).__name__})")
    sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    said = [] if counted else ["cycles and LLC misses were not counted (no PMU?): this is CPU time", ""]
    what = "CPI" if counted else "STRETCH"
    busiest = rows.group_by("name").agg(pl.sum("traffic")).sort("traffic", "name", descending=True)["name"].to_list()
    letters = dict(zip(busiest[:6], "ABCDEF", strict=False))
    print(*said, *(f"{letters[name]} = {text}" for name, text in shown(letters, 74).items()), sep="\n")
    start, largest = rows["tick_start"][0], rows.group_by("tick_start").agg(pl.sum("traffic"))["traffic"].max() or 1
    waited = rows.filter(pl.col("name") != "/").group_by("name").agg(waited=pl.sum("cost") - pl.sum("work"))
    most = (
        slowed(rows, busiest[0], largest / 2) if counted else waited.sort("waited", "name")["name"].last() or "nobody"
    )
    victim = next((name for name in busiest if wanted and wanted[0] in name), most)
    own = rows.filter(pl.col("name") == victim, pl.col("work") > 0)
    cpi = {row["tick_start"]: f"{row['cost'] / row['work']:.2f}" for row in own.iter_rows(named=True)}
    print(f"\nfrom {start:%Y-%m-%d %H:%M:%S.%f} UTC; {what} of {shown([victim], 36)[victim]}")
    print(f"{'+ms':>7} {'MB' if counted else 'CPU ms':>7}  {'TRAFFIC' if counted else 'WHO RAN':{BAR_WIDTH}} {what:>7}")
    for (tick,), part in rows.select("tick_start", "name", "traffic").group_by("tick_start", maintain_order=True):
        text = f"{part['traffic'].sum() / 1e6:>7.2f}  {bar(part, letters, largest):{BAR_WIDTH}} {cpi.get(tick, '-'):>7}"
        print(f"{(tick - start).total_seconds() * 1000:>7.1f} {text}")


if __name__ == "__main__":
    main()
