# SPDX-License-Identifier: Apache-2.0
"""`tracer doctor`, run as a program of its own on a node that cannot run the tracer: too few files may be opened."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from json_answers import answer_of
from typer.testing import CliRunner

from tracer.cli.doctor import doctor
from tracer.errors import UsageError
from tracer.preflight.doctor import PROBES

PROGRAM = (
    "import sys, typer; from tracer.cli.doctor import doctor; app = typer.Typer(); "
    "app.command()(doctor); app(prog_name='doctor')"
)
HEAVY = ("polars", "numba", "pyarrow", "numpy", "tracer.kernel.tick_source", "tracer.kernel.rings")
OPEN_FILES = 64


def run(*arguments: str | bytes, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f'ulimit -n {OPEN_FILES}; exec "$0" -c "$@" <&-', sys.executable, PROGRAM, *arguments],
        capture_output=True,
        check=False,
        text=True,
        encoding=encoding,
        env=os.environ | {"COLUMNS": "80", "PYTHONIOENCODING": encoding},
    )


def run_json(*arguments: str) -> dict[str, dict[str, Any]]:
    finished = run("--json", *arguments)
    assert (finished.returncode, finished.stderr) == (3, "")
    report = answer_of("doctor", finished.stdout)
    assert report["verdict"] == "cannot-run"
    return {check["id"]: check for check in report["checks"]}


def test_json_has_every_check_in_order(tmp_path: Path) -> None:
    checks = run_json("--output", str(tmp_path / "a" / "b"))
    assert list(checks) == [probe.id for probe in PROBES]
    assert all(set(check) == {"id", "status", "required", "found", "remedy"} for check in checks.values())
    assert all(check["remedy"] for check in checks.values() if check["status"] in ("failed", "warning"))
    assert checks["open-files"]["status"] == "failed"
    assert checks["output"]["status"] == "ok"
    assert checks["disk-free"]["found"].endswith(f" free at {tmp_path}")
    assert list(tmp_path.iterdir()) == []


def test_without_an_output_none_is_checked() -> None:
    checks = run_json()
    assert {checks[name]["status"] for name in ("output", "disk-free")} == {"skipped"}


def test_the_table_fits_80_columns_and_ends_with_the_verdict() -> None:
    finished = run()
    assert (finished.returncode, finished.stderr) == (3, "")
    *table, conclusion = finished.stdout.splitlines()
    assert all(len(line) <= 80 for line in table)
    rows = [line.split()[:2] for line in table if not line.startswith(" ")]
    assert [check_id for _status, check_id in rows] == [probe.id for probe in PROBES]
    (row,) = [number for number, line in enumerate(table) if line.startswith("failed   open-files")]
    assert any(line.strip().startswith("-> raise the limit") for line in table[row + 1 : row + 4])
    assert re.fullmatch(r"This node cannot run the tracer: .*\bopen-files\b.*\.", conclusion)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_hostile_output_does_no_harm(encoding: str) -> None:
    finished = run("--output", "/dev/null/\x1b[2J\u202e[red]\u00e9\n\udcff", encoding=encoding)
    assert (finished.returncode, finished.stderr) == (3, "")
    assert "Not a directory" in " ".join(finished.stdout.split())
    assert "[red]" in finished.stdout
    assert not set(finished.stdout) & {"\x1b", "\u202e", "\udcff"}


@pytest.mark.parametrize("event", ["cycles", "cycles=nonsense", "=\x1b"])
def test_a_bad_event_is_a_usage_error(event: str) -> None:
    app = typer.Typer()
    app.command()(doctor)
    assert isinstance(CliRunner().invoke(app, ["--event", event]).exception, UsageError)


def test_the_chosen_events_are_the_ones_named() -> None:
    checks = run_json("--event", "cycles=software:cpu-clock", "--event", "llc_misses=r412e")
    if checks["event-cycles"]["status"] != "skipped":
        assert checks["event-cycles"]["found"].startswith("software:cpu-clock")
        assert checks["event-llc-misses"]["found"].startswith("r412e")


def test_nothing_heavy_is_imported() -> None:
    program = f"import sys, tracer.cli.doctor; print([name for name in {HEAVY!r} if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert finished.stdout == "[]\n"
