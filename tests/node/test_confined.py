# SPDX-License-Identifier: Apache-2.0
"""The tracer in a container of containerd: a read-only root, the default seccomp profile, and few capabilities."""

import sys
from pathlib import Path

import polars as pl
import pytest
from containerd_node import ContainerdNode

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
STATUS = "grep -E '^(CapEff|Seccomp|NoNewPrivs):' /proc/self/status; for d in / /tmp /root; do touch $d/x; done; true"
BPF_AND_PERFMON = 1 << 39 | 1 << 38


def test_a_confined_container_traces_the_node(containerd: ContainerdNode) -> None:
    writable = containerd.directory / "results"
    writable.mkdir()

    def run(*command: str) -> str:
        finished = containerd.run_installed(
            *command,
            capabilities=("CAP_BPF", "CAP_PERFMON"),
            environment={"PYTHONPATH": str(ROOT), "HOME": "/nonexistent"},
            writable=writable,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout + finished.stderr

    said = run("/bin/sh", "-c", STATUS)
    status = dict(line.split(":\t") for line in said.splitlines() if ":\t" in line)
    assert said.count("Read-only file system") == 3, said
    assert (int(status["CapEff"], 16), status["Seccomp"], status["NoNewPrivs"]) == (BPF_AND_PERFMON, "2", "1")
    said = run(sys.executable, "-m", "tracer.cli.main", "run", "--duration", "2s", "--output", "/mnt/results")
    assert "none lost" in said

    def table(name: str) -> pl.DataFrame:
        return pl.read_parquet(writable / "results" / name / "**/*.parquet", hive_partitioning=False)

    # The container's own cgroup among them.
    assert table("windows").filter(pl.col("cgroup_path").str.contains("installed-")).height
    assert table("waits").height
    assert table("resources").height
