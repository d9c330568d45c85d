# SPDX-License-Identifier: Apache-2.0
"""The run hears of every cgroup that comes and goes, however short its life and whatever its name."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from live_node import Cgroup, Tracer

pytestmark = pytest.mark.root

CGROUPS = 10_000
PER_SECOND = 1_000


def test_ten_thousand_cgroups_at_a_thousand_a_second(start_tracer: Callable[..., Tracer], own_cgroup: Path) -> None:
    tracer = start_tracer("--nri", "off")
    tracer.wait_until_tracing()
    made = {}
    begin = time.monotonic()
    for number in range(CGROUPS):
        # Named as a container, so that names are asked for as well.
        cgroup = own_cgroup / f"docker-{number:064x}.scope"
        cgroup.mkdir()
        made[cgroup.stat().st_ino] = cgroup.name
        cgroup.rmdir()
        time.sleep(max(0.0, begin + number / PER_SECOND - time.monotonic()))
    time.sleep(1.5)
    tracer.process.terminate()
    result = tracer.result()
    walks = int((time.monotonic() - begin + 1) // 30)

    lifecycle = result.table("lifecycle").filter(pl.col("cgroup_path").str.starts_with(f"/{own_cgroup.name}/"))
    for event in ("created", "removed"):
        rows = lifecycle.filter(pl.col("event") == event)
        assert dict(rows.select("cgroup_id", "cgroup_path").iter_rows()) == {
            cgroup_id: f"/{own_cgroup.name}/{name}" for cgroup_id, name in made.items()
        }
        # A walk, each 30 s, may see one before what the kernel told of it is read.
        assert rows.filter(pl.col("source") != "kernel").height <= 3 * walks
    health = result.table("health")
    assert health["cgroup_events_lost"].sum() == 0
    assert result.manifest.totals.records_lost == 0
    assert result.manifest.totals.unknown_rows == 0
    # 10,000 cgroups and their rows are a few MB; what grows without bound would show here.
    assert health["own_rss_bytes"].max() - health["own_rss_bytes"][0] < 100 << 20


@pytest.mark.parametrize(
    "name", [b"\x1b]0;owned\x07.service", b"\xff\xfe.scope", b"<script>alert(1)</script>", b"x" * 255]
)
def test_hostile_names_do_no_harm(start_tracer: Callable[..., Tracer], own_cgroup: Path, name: bytes) -> None:
    cgroup = Cgroup(own_cgroup / os.fsdecode(name))
    tracer = start_tracer("--duration", "3s")
    tracer.wait_until_tracing()
    try:
        process = cgroup.start("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")
        process.wait()
    finally:
        cgroup.stop()
    result = tracer.result()
    paths = result.table("windows").filter(pl.col("cgroup_id") == cgroup.id)["cgroup_path"].unique()
    assert len(paths) == 1
    assert paths[0].isprintable()
    assert paths[0].startswith(f"/{own_cgroup.name}/")


def test_limits_of_a_container_are_told_where_the_node_has_them(
    start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup]
) -> None:
    container = new_container()
    result = start_tracer("--duration", "4s").result()
    rows = result.table("lifecycle").filter(pl.col("cgroup_id") == container.id)
    assert "created" in rows["event"].to_list()
    has_controller = (container.path / "cpu.max").exists()
    assert (rows["cpu_period_usec"].drop_nulls().len() > 0) == has_controller
