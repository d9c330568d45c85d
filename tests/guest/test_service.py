# SPDX-License-Identifier: Apache-2.0
"""The tracer as a service of systemd, in its sandbox: it starts, traces, is watched, and ends. Run in such a guest.

The program is the checkout's, as there is no network to install from; the unit is what `make install` installs.
"""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
OUTPUT = Path("/var/lib/tracer")
RESULTS = Path("/results")
ROTATIONS = 6
LONG_S = 400


def sh(command: str) -> str:
    """Runs a command that is to succeed; what it printed."""
    ran = subprocess.run(["sh", "-ec", command], capture_output=True, text=True)
    assert ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}{journal_text()}"
    return ran.stdout.strip()


def journal_text() -> str:
    return subprocess.run(["journalctl", "-u", "tracer", "--no-pager"], capture_output=True, text=True).stdout


def shown(name: str) -> str:
    return sh(f"systemctl show --value -p {name} tracer")


def said(*of: str) -> list[dict[str, str]]:
    """What the tracer itself wrote into the journal."""
    lines = sh(" ".join(("journalctl -u tracer -o json SYSLOG_IDENTIFIER=tracer", *of))).splitlines()
    return [json.loads(line) for line in lines]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end, journal_text()
        time.sleep(1)


def runs() -> dict[str, str]:
    """Status by run."""
    manifests = [json.loads(file.read_text()) for file in OUTPUT.glob("runs/*/session.json")]
    return {one["run_id"]: one["status"] for one in manifests}


def test_the_life_of_the_service() -> None:
    Path("/usr/local/bin/tracer").symlink_to(ROOT / ".venv/bin/tracer")
    sh(f"{ROOT}/scripts/service install /usr/local")
    assert subprocess.run(["systemctl", "is-enabled", "tracer"], capture_output=True, text=True).stdout == "disabled\n"
    config = Path("/etc/tracer/tracer.toml")
    config.write_text(config.read_text().replace('rotate = "90s"', 'rotate = "3s"'))
    RESULTS.joinpath("security").write_text(sh("systemd-analyze security --no-pager tracer.service"))

    # Returns when the service says that it is ready: ticks were seen.
    sh("systemctl start tracer")
    assert shown("ActiveState") == "active"
    process = shown("MainPID")
    assert "records, none lost" in shown("StatusText")
    capabilities = Path(f"/proc/{process}/status").read_text()
    assert int(capabilities.split("CapEff:")[1].split()[0], 16).bit_count() <= 5

    # It goes on while systemd reads its units anew, and is started anew itself.
    sh("systemctl daemon-reload; systemctl daemon-reexec")
    started = len(said())
    wait_until(lambda: len({file.name for file in OUTPUT.glob("windows/**/*.parquet")}) >= ROTATIONS)
    assert (shown("MainPID"), shown("NRestarts"), shown("ActiveState")) == (process, "0", "active")
    # Nothing was said of the files that were closed.
    assert len(said()) == started <= 3
    assert pl.read_parquet(OUTPUT / "windows/**/*.parquet", hive_partitioning=False)["cpu_time_ns"].sum() > 0

    # Without ticks nobody feeds the watchdog: it is killed, and what was in no file yet is recovered.
    sh(f"kill -STOP {process}")
    wait_until(lambda: shown("NRestarts") == "1" and shown("ActiveState") == "active")
    assert shown("MainPID") != process
    assert "Watchdog timeout" in journal_text()
    assert any("was killed: recovered" in line["MESSAGE"] for line in said())
    assert sorted(runs().values()) == ["crashed", "running"]

    sh("systemctl stop tracer")
    assert (shown("Result"), shown("ExecMainStatus"), shown("ActiveState")) == ("success", "0", "inactive")
    assert sorted(runs().values()) == ["crashed", "finished"]
    lines = said()
    RESULTS.joinpath("journal").write_text(journal_text())
    assert {line["PRIORITY"] for line in lines} <= {"4", "6"}
    assert not any(line["MESSAGE"].startswith("<") for line in lines)

    # A mistake is not tried again.
    config.write_text("no-such-option = 1\n")
    assert subprocess.run(["systemctl", "start", "tracer"], capture_output=True).returncode != 0
    assert (shown("ActiveState"), shown("ExecMainStatus")) == ("failed", "2")
    assert said()[-1]["PRIORITY"] == "3"

    sh(f"{ROOT}/scripts/service remove /usr/local")
    assert shown("LoadState") == "not-found"
    assert runs()
