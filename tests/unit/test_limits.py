# SPDX-License-Identifier: Apache-2.0
import os
from pathlib import Path

from tracer.containers.limits import Limits, read_limits


def test_limits_as_the_kernel_writes_them(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "cpu.weight").write_text("100\n")
    (tmp_path / "memory.max").write_text("314572800\n")
    (tmp_path / "cpuset.cpus").write_text("0-1,4\n")
    assert read_limits(tmp_path) == Limits(50_000, 100_000, 100, 314_572_800, "0-1,4")


def test_no_limit_is_null(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cpuset.cpus").write_text("\n")
    assert read_limits(tmp_path) == Limits(None, 100_000, None, None, None)


def test_what_is_not_there_or_is_something_else_is_null(tmp_path: Path) -> None:
    assert read_limits(tmp_path / "gone") == Limits()
    (tmp_path / "cpu.max").mkdir()
    os.mkfifo(tmp_path / "memory.max")
    (tmp_path / "cpu.weight").write_bytes(b"\xff\x00")
    assert read_limits(tmp_path) == Limits()
