# SPDX-License-Identifier: Apache-2.0
"""A service's own latencies beside what it waited, in recordings in which it is known whether they rose."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from planted_recording import START_NS, WINDOW_NS, WINDOW_TICKS, Columns, container, frame, write_recording
from planted_waits import MS, Load, tables_of

from tracer.analysis.findings import Report
from tracer.analysis.latencies.quantiles import Groups, difference, quantile
from tracer.analysis.recording import open_recording
from tracer.analysis.report import report
from tracer.cli.printing import TextOutput
from tracer.cli.report_text import print_report
from tracer.simulate import simulate
from tracer.store.schemas import TABLES

WEB, ETL, DB = container(1, "app", "web-1"), container(2, "etl", "batch-7"), container(3, "db", "db-1")
WINDOWS = 2000
BUSY = [number for number in range(WINDOWS) if number // 20 % 4 == 0]
QUIET = [number for number in range(WINDOWS) if number // 20 % 4]


def values_of(
    who: Columns, windows: Sequence[int], values: np.ndarray, *, name: str = "http.request", kind: str = "timer",
    sender_by: str = "credentials", count: float = 1.0,
) -> pl.DataFrame:  # fmt: skip
    """A value in each of these windows."""
    numbers = np.asarray(windows)
    columns = {
        "time": START_NS + numbers * WINDOW_NS,
        "window_tick": numbers * WINDOW_TICKS,
        "name": name,
        "kind": kind,
        "value": values.astype(np.float64),
        "count": count,
        "sender_by": sender_by,
    }
    return frame(TABLES["external"], len(numbers), {"node_name": "node-1", **who, **columns})


def reported(output: Path, *external: pl.DataFrame) -> Report:
    loads = [
        Load(WEB, BUSY, 6 * MS, {2: 20 * MS, 3: 1}), Load(WEB, QUIET, 6 * MS, {3: 1}), Load(ETL, BUSY, 45 * MS, {}),
        Load(DB, range(WINDOWS), 5 * MS, {}),
    ]  # fmt: skip
    write_recording(output, **tables_of(loads), external=external)
    return report(open_recording([output]))


def drawn(windows: Sequence[int], typical: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(np.log(typical), 0.3, len(windows))


def test_a_rise_while_it_waited_is_told_with_its_size(tmp_path: Path) -> None:
    several = [values_of(WEB, BUSY, drawn(BUSY, 15.0, seed)) for seed in range(3)]
    others = [values_of(WEB, QUIET, drawn(QUIET, 4.0, seed + 10)) for seed in range(3)]
    found = reported(tmp_path, *several, *others)
    (latency,) = found.latencies
    (beside,) = latency.beside
    assert (latency.container.name, latency.name, latency.values) == ("shop/web-1/app", "http.request", 3.0 * WINDOWS)
    assert (beside.container.name, beside.verdict, beside.quantile) == ("shop/batch-7/etl", "rose", 0.99)
    assert beside.otherwise == pytest.approx(
        np.quantile(np.concatenate([one["value"] for one in others]), 0.99), rel=0.05
    )
    assert beside.during == pytest.approx(np.quantile(np.concatenate([one["value"] for one in several]), 0.99), rel=0.1)
    assert beside.rise is not None
    assert 0 < beside.rise.low <= beside.rise.value <= beside.rise.high
    # Of each twenty windows in which it waited, one more counts.
    assert beside.values_during == 3 * 25 * 21
    assert found.headline[-1].startswith("http.request of shop/web-1/app: p99 rose from ")
    assert found.headline[-1].endswith("in the windows in which it waited behind shop/batch-7/etl.")


@pytest.mark.parametrize("seed", range(8))
def test_what_is_the_same_while_it_waited_is_not_told(tmp_path: Path, seed: int) -> None:
    everywhere = range(WINDOWS)
    found = reported(tmp_path, *(values_of(WEB, everywhere, drawn(everywhere, 4.0, 10 * seed + n)) for n in range(3)))
    (beside,) = found.latencies[0].beside
    assert beside.verdict == "no"
    assert "http.request" not in "".join(found.headline)


def test_values_of_windows_that_are_longer_or_not_there_are_of_neither_group(tmp_path: Path) -> None:
    values = [values_of(WEB, BUSY, drawn(BUSY, 15.0, 1)), values_of(WEB, QUIET, drawn(QUIET, 4.0, 2))]
    loads = [Load(WEB, BUSY, 6 * MS, {2: 20 * MS}), Load(WEB, QUIET, 6 * MS, {}), Load(ETL, BUSY, 45 * MS, {})]
    tables = tables_of(loads)
    is_longer = pl.col("window_tick") >= 1000 * WINDOW_TICKS
    longer = pl.when(is_longer).then(5 * WINDOW_TICKS).otherwise("ticks").alias("ticks")
    there = pl.col("window_tick") < 1500 * WINDOW_TICKS
    windows = [rows.filter(there).with_columns(longer) for rows in tables["windows"]]
    write_recording(tmp_path, **{**tables, "windows": windows}, external=values)
    (beside,) = report(open_recording([tmp_path])).latencies[0].beside
    assert (beside.verdict, beside.values_during + beside.values_otherwise) == ("rose", 1000)


def test_of_few_values_nothing_is_told(tmp_path: Path) -> None:
    found = reported(
        tmp_path, values_of(WEB, BUSY[::25], drawn(BUSY[::25], 90.0, 1)), values_of(WEB, QUIET, drawn(QUIET, 4.0, 2))
    )
    (beside,) = found.latencies[0].beside
    assert (beside.verdict, beside.quantile, beside.during, beside.rise) == ("unknown", None, None, None)


def test_of_some_a_lower_percentile_is(tmp_path: Path) -> None:
    found = reported(
        tmp_path, values_of(WEB, BUSY, drawn(BUSY, 15.0, 1))[::5], values_of(WEB, QUIET, drawn(QUIET, 4.0, 2))
    )
    (beside,) = found.latencies[0].beside
    assert (beside.verdict, beside.quantile) == ("rose", 0.9)
    assert ": p90 rose from " in found.headline[-1]


def test_claims_and_other_kinds_are_left_out(tmp_path: Path) -> None:
    claimed = values_of(WEB, BUSY, drawn(BUSY, 90.0, 1), sender_by="claim")
    counter = values_of(WEB, BUSY, drawn(BUSY, 90.0, 1), kind="counter")
    assert reported(tmp_path, claimed, counter).latencies == []


def test_the_text_has_them_in_a_table_and_names_do_no_harm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rose = [values_of(WEB, BUSY, drawn(BUSY, 15.0, 1)), values_of(WEB, QUIET, drawn(QUIET, 4.0, 2))]
    hostile = values_of(WEB, QUIET, drawn(QUIET, 4.0, 3), name="[red]\x1b[2J\u202e", kind="histogram")
    found = reported(tmp_path, *rose, hostile)
    print_report(found, TextOutput())
    text = capsys.readouterr().out
    assert all(character.isprintable() or character == "\n" for character in text)
    table = text.partition("What services measured themselves:")[2]
    assert "behind shop/batch-7/etl: p99 " in " ".join(table.split())
    assert "[red]" in table
    assert "too few values" in " ".join(table.split())


def test_a_rise_while_another_missed_the_cache_is_told(tmp_path: Path) -> None:
    """Of a simulated node whose truth is known, with latencies that follow the aggressor's misses."""
    simulate("cache-thrash", seed=3, duration_ns=60 * 10**9, output=tmp_path)
    windows = open_recording([tmp_path]).scan("windows").collect()
    web, etl = (windows.filter(pl.col("pod_name") == pod).sort("window_start") for pod in ("web-1", "batch-7"))
    misses = web.join(etl, on="window_start", how="left")["llc_misses_right"].fill_null(0).to_numpy()
    identity = {name: web[name][0] for name in web.columns[:11]}
    given = {
        "time": web["window_start"].dt.epoch("ns").to_numpy(),
        "window_tick": web["window_tick"].to_numpy(),
        "name": "db.query",
        "kind": "histogram",
        "value": drawn(range(web.height), 1.0, 1) * np.where(misses > 0.5 * np.quantile(misses, 0.95), 30.0, 4.0),
        "count": 5.0,
        "sender_by": "credentials",
    }
    own = frame(TABLES["external"], web.height, {**identity, **given})
    write_recording(tmp_path, node=identity["node_name"], external=[own])
    found = report(open_recording([tmp_path]))
    (latency,) = found.latencies
    beside = next(one for one in latency.beside if one.how == "cache")
    assert (beside.container.name, beside.verdict) == ("jobs/batch-7/etl", "rose")
    assert found.headline[-1].startswith("db.query of shop/web-1/app: p9")
    assert found.headline[-1].endswith("in the windows in which jobs/batch-7/etl missed the LLC much.")


def test_what_was_not_kept_is_said(tmp_path: Path) -> None:
    columns = {"external_messages": 100, "external_messages_dropped": 7, "external_values_dropped": 0}
    time = {"time": START_NS + np.arange(2) * 10**9}
    health = frame(TABLES["health"], 2, {"node_name": "node-1", **time, **columns})
    values = values_of(WEB, QUIET, drawn(QUIET, 4.0, 2))
    write_recording(tmp_path, **tables_of([Load(WEB, range(WINDOWS), MS, {})]), external=[values], health=[health])
    (caveat,) = [one for one in report(open_recording([tmp_path])).caveats if one.id == "external-loss"]
    assert caveat.text == (
        "of what services sent, 200 messages were read; not all was kept: 14 more were thrown away, as they were too "
        "many"
    )


def test_a_recording_without_has_none(tmp_path: Path) -> None:
    assert reported(tmp_path).latencies == []


def test_quantiles_are_of_what_was_counted() -> None:
    values, counts = np.array([1.0, 2.0, 50.0]), np.array([98.0, 1.0, 1.0])
    assert [quantile(values, counts, share) for share in (0.5, 0.98, 0.99, 0.995)] == [1.0, 1.0, 2.0, 50.0]
    assert np.isnan(quantile(values, np.zeros(3), 0.5))


def test_one_bad_moment_is_not_taken_for_many() -> None:
    """A thousand slow values of one second say as little as one."""
    during, otherwise = np.zeros((30, 2)), np.zeros((30, 2))
    during[:, 0], otherwise[:, 0] = 20.0, 100.0
    during[7, 1] = 1000.0
    _estimate, is_sure = difference(Groups(np.array([5.0, 50.0]), during, otherwise, (1600.0, 3000.0)), 0.99, 1)
    assert not is_sure
    during[:, 1] = 5.0
    _estimate, is_sure = difference(Groups(np.array([5.0, 50.0]), during, otherwise, (1600.0, 3000.0)), 0.99, 1)
    assert is_sure
