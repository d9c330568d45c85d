# SPDX-License-Identifier: Apache-2.0
"""A service that says how long its requests take, beside a batch job: whose these are, when, and what is reported."""

import os
import socket
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import polars as pl
import pytest
from live_node import Cgroup, Tracer
from web_server import PROGRAM, asking, free_port, is_listening, wait_for

from tracer.analysis.latencies.latencies import rise
from tracer.analysis.recording import open_recording
from tracer.analysis.report import report

pytestmark = pytest.mark.root
WINDOW_NS = 60_000_000
# What the run's anchor and a reading of the clock can be apart.
CLOCKS_NS = 1_000_000


def test_latencies_are_of_their_container_and_window_and_the_report_says_when_they_rose(
    start_tracer: Callable[..., Tracer],
    new_container: Callable[[], Cgroup],
    tmp_path: Path,
) -> None:
    first, *_others, last = sorted(os.sched_getaffinity(0))
    port, log, path = free_port(), tmp_path / "latencies", tmp_path / "ingest.sock"
    web, batch = new_container(), new_container()
    tracer = start_tracer("--ingest", str(path))
    tracer.wait_until_tracing()
    web.start(f"exec '{sys.executable}' '{PROGRAM}' server {last} {port} '{log}' '{path}'")
    wait_for(lambda: is_listening(port))
    batch.start(f"exec '{sys.executable}' '{PROGRAM}' batch {last}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as liar:
        for _number in range(20):
            liar.sendto(f"http.request:1e6|ms|c:in-{web.id}".encode(), str(path))
    with asking(first, port):
        wait_for(lambda: len(log.read_text().splitlines()) >= 600)
    # It answers one after the other: what was asked before is told and written down.
    last_one = HTTPConnection("127.0.0.1", port, timeout=60)
    last_one.request("GET", f"/{time.time_ns()}")
    last_one.getresponse().read()
    # Whose a message is can be told as long as its sender lives.
    tracer.process.send_signal(2)
    result = tracer.result()
    web.stop()

    external = result.table("external")
    own = external.filter(pl.col("cgroup_id") == web.id)
    assert set(own["container_id"]) == {web.path.name}
    assert set(external["sender_by"]) == {"credentials"}
    # What somebody else says is his is not.
    assert (own["value"] < 1e6).all()
    assert external.filter(value=1e6)["count"].sum() == 20
    assert result.table("health")["external_claims_refused"].sum() == 20

    columns = ["sent", "ready", "told"]
    requests = pl.read_csv(log, has_header=False, new_columns=columns, separator=" ").drop_nulls()
    assert own["count"].sum() == requests.height
    of_request = own.with_columns(ready=pl.col("tags").str.strip_prefix("ready:").cast(pl.Int64))
    rows = requests.join(of_request, on="ready", how="left")
    assert (rows["value"] * 1e6).round().cast(pl.Int64).equals(rows["ready"] - rows["sent"])
    start_ns = rows["time"].dt.epoch("ns")
    assert rows["time"].null_count() == 0
    assert (start_ns <= rows["told"] + CLOCKS_NS).all()
    assert (start_ns + WINDOW_NS > rows["ready"] - CLOCKS_NS).all()
    # It ran in each of these windows, as it sent something.
    windows = result.table("windows").filter(pl.col("cgroup_id") == web.id, pl.col("cpu_time_ns") > 0)
    assert own.join(windows, on=["window_tick", "cgroup_id"], how="anti").is_empty()
    assert own.join(windows, left_on="time", right_on="window_start", how="anti").is_empty()
    assert not path.exists()

    found = report(open_recording([result.output]))
    (latency,) = [one for one in found.latencies if one.container.cgroup_ids == [web.id]]
    beside = next(one for one in latency.beside if one.container.cgroup_ids == [batch.id])
    print(beside)
    assert (latency.name, latency.kind) == ("http.request", "timer")
    assert beside.verdict == "rose"
    # Of those behind which it rose, the one that made the most of it is told: on a crowded machine, somebody else's.
    worst = max(latency.beside, key=rise)
    told = [line for line in found.headline if line.startswith(f"http.request of {latency.container.name}: ")]
    assert f"in the windows in which it waited behind {worst.container.name}." in told[0]
    assert worst is beside or [one.verdict for one in latency.beside].count("rose") > 1
