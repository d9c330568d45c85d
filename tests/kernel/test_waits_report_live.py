# SPDX-License-Identifier: Apache-2.0
"""A web server beside a batch job in bursts: its own log, and what the tracer says of it."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from live_node import Cgroup, Tracer
from web_server import PROGRAM, asking, free_port, is_listening, wait_for

from tracer.analysis.labels import container_label
from tracer.analysis.recording import open_recording
from tracer.analysis.report import report

pytestmark = pytest.mark.root


def wait_within(ticks: pl.DataFrame, requests: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """How long the server waited for a CPU from the begin to the end of each request, ns: whole ticks."""
    starts = ticks["tick_start"].dt.epoch("ns").to_numpy()
    sums = np.concatenate([[0], np.cumsum(ticks["wait_time_ns"].to_numpy())])
    first, last = (np.searchsorted(starts, requests[name].to_numpy()) for name in ("sent", "ready"))
    return (sums[last] - sums[np.maximum(first - 1, 0)]).astype(np.float64)


def test_slow_requests_are_those_in_which_it_waited_and_the_job_is_named(
    start_tracer: Callable[..., Tracer],
    new_container: Callable[[], Cgroup],
    tmp_path: Path,
) -> None:
    first, *_others, last = sorted(os.sched_getaffinity(0))
    port, log = free_port(), tmp_path / "latencies"
    web, batch = new_container(), new_container()
    tracer = start_tracer("--ticks")
    tracer.wait_until_tracing()
    web.start(f"exec '{sys.executable}' '{PROGRAM}' server {last} {port} '{log}'")
    wait_for(lambda: is_listening(port))
    batch.start(f"exec '{sys.executable}' '{PROGRAM}' batch {last}")
    with asking(first, port):
        wait_for(lambda: len(log.read_text().splitlines()) >= 300)
    tracer.process.send_signal(2)
    result = tracer.result()
    # It writes no more while it is read; what it was in the middle of when the run ended is not in the ticks.
    web.stop()
    requests = pl.read_csv(log, has_header=False, new_columns=["sent", "ready"], separator=" ")
    ticks = result.table("ticks").filter(pl.col("cgroup_id") == web.id)
    ticks = ticks.group_by("tick_start").agg(pl.sum("wait_time_ns")).sort("tick_start")
    requests = requests.filter(pl.col("ready") < ticks["tick_start"].dt.epoch("ns").max())
    latencies = (requests["ready"] - requests["sent"]).to_numpy().astype(np.float64)
    waited = wait_within(ticks, requests)
    correlation = float(np.corrcoef(latencies, waited)[0, 1])
    print(f"{len(requests)} requests, latency and waiting correlate by {correlation:.3f}")
    assert correlation > 0.9
    names = dict(
        result.table("windows").filter(pl.col("cgroup_id").is_in([web.id, batch.id]))
        .select("cgroup_id", container_label()).iter_rows()
    )  # fmt: skip
    found = report(open_recording([result.output], container=names[web.id]))
    print(found.headline[0])
    assert found.headline[0].startswith(f"{names[web.id]} lost ")
    assert f"behind {names[batch.id]}" in found.headline[0]
    (spent,) = found.time_spent
    behind_batch = next(one for one in spent.holders if one.container and one.container.name == names[batch.id])
    # It uses a tenth of the CPU, and the job most of the rest.
    assert behind_batch.held_back_ns > 0.9 * behind_batch.wait_ns
