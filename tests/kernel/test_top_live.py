# SPDX-License-Identifier: Apache-2.0
"""`tracer top` on the live node: a real terminal of 80x24, one second as text and as JSON, and a recording played."""

import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from live_node import TRACER, Cgroup, Tracer

from tracer.store.manifest import Manifest, read_manifest

pytestmark = pytest.mark.root

# All want the same CPU all the time. Each is a session of its own, which the kernel may give an equal share: so many
# are the culprit's that it is ahead of what else a crowded machine runs.
SPIN = f"exec taskset -c 0 {sys.executable} -S -c 'while True: pass'"
CULPRITS = 4
_SECONDS = 60


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, *TRACER, "top", *map(str, arguments)]


def tracer_top(*arguments: str | Path) -> str:
    """What it prints."""
    ended = subprocess.run(command(*arguments), capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


class Terminal:
    """`tracer top` in a terminal emulator of the test's own."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def start(self, width: int, height: int, *arguments: str | Path) -> None:
        """The shell around it says how it ended."""
        script = f"{shlex.join(command(*arguments))}; echo ended with $?; exec cat"
        size = ["-x", str(width), "-y", str(height)]
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, "sh", "-c", script)

    def press(self, *keys: str) -> None:
        """By the names that tmux(1) has for them."""
        self._tmux("send-keys", *keys)

    def lines(self) -> list[str]:
        """What is on the screen."""
        return self._tmux("capture-pane", "-p").split("\n")

    def await_lines(self, look: Callable[[list[str]], object]) -> list[str]:
        """The screen once `look` finds there what it wants."""
        until = time.monotonic() + _SECONDS
        while not look(lines := self.lines()):
            assert time.monotonic() < until, "\n".join(lines)
            time.sleep(0.1)
        return lines

    def await_text(self, text: str) -> list[str]:
        """The screen once `text` is in one of its lines."""
        return self.await_lines(lambda lines: any(text in line for line in lines))

    def close(self) -> None:
        """With all that runs in it."""
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], check=False, capture_output=True)

    def _tmux(self, *arguments: str) -> str:
        ended = subprocess.run(
            ["tmux", "-S", self._socket, *arguments], check=False, capture_output=True, text=True, timeout=60
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@pytest.fixture
def new_terminal(tmp_path: Path) -> Iterator[Callable[[], Terminal]]:
    """Makes terminals that are closed when the test is over."""
    made: list[Terminal] = []

    def make() -> Terminal:
        made.append(Terminal(tmp_path / f"tmux{len(made)}"))
        return made[-1]

    yield make
    for terminal in made:
        terminal.close()


def recordings(output: Path) -> list[Manifest]:
    return [read_manifest(path) for path in output.glob("runs/*/session.json")]


def of_cgroup(answer: dict[str, Any], cgroup: Cgroup) -> dict[str, Any]:
    """What the JSON answer says of it."""
    found: dict[str, Any]
    (found,) = (one for one in answer["containers"] if one["container"]["cgroup_id"] == cgroup.id)
    return found


def test_a_terminal_text_json_and_playback_show_who_waits_behind_whom(
    new_container: Callable[[], Cgroup],
    start_tracer: Callable[..., Tracer],
    new_terminal: Callable[[], Terminal],
    tmp_path: Path,
) -> None:
    victim, culprit = new_container(), new_container()
    socket = tmp_path / "top.sock"
    tracer = start_tracer("--recorder", "30s", "--after", "1s", "--socket", str(socket))
    tracer.wait_until_tracing()
    victim.start(SPIN)
    for _spinner in range(CULPRITS):
        culprit.start(SPIN)
    # By the identifier's beginning, which is short enough to be in any column's width.
    waits, holds = victim.path.name[:12], culprit.path.name[:12]

    terminal = new_terminal()
    terminal.start(80, 24, "--socket", socket)
    terminal.await_lines(lambda lines: all(any(name in line for line in lines) for name in (waits, holds)))
    lines = terminal.lines()
    assert "LOST" not in lines[0], lines[0]
    assert {"CONTAINER", "CPUS", "RAN", "LOST", "BEHIND", "MINUTE"} <= set(lines[1].split())
    assert "q quit" in lines[23]
    # Filter as it is typed: no Enter yet.
    terminal.press("/", *waits)
    lines = terminal.await_lines(lambda lines: lines[23].startswith(f"Filter: {waits}_") and waits in lines[2])
    assert not any(line.strip() for line in lines[3:23]), "\n".join(lines)
    terminal.press("Enter", "Enter")
    lines = terminal.await_text("The last minute, by the second:")
    assert waits in lines[1]
    lines = terminal.await_lines(lambda lines: any("%" in line and holds in line for line in lines[2:]))
    assert lines[2].startswith("container; "), lines[2]
    # Escape and a key at once are a key with Alt.
    terminal.press("Escape")
    terminal.await_lines(lambda lines: "CONTAINER" in lines[1])
    terminal.press("Space")
    terminal.await_lines(lambda lines: lines[0].endswith("PAUSED"))
    terminal.press("Space", "w")
    terminal.await_lines(lambda lines: "are written" in lines[23] and "PAUSED" not in lines[0])
    terminal.press("q")
    assert terminal.await_text("ended with ")[0].startswith("ended with 0")

    (line,) = (line for line in tracer_top("--once", "--socket", socket).splitlines() if waits in line.split()[0])
    assert line.split()[-1].endswith(holds), line
    answer = json.loads(tracer_top("--json", "--socket", socket))
    assert answer["records_lost"] == 0
    assert answer["seconds"] > 0
    one = of_cgroup(answer, victim)
    assert 0 < one["lost"] < 1
    assert one["holders"][0]["by"]["cgroup_id"] == culprit.id
    assert one["cpi"] is None or one["cpi"] > 0

    victim.stop()
    culprit.stop()
    tracer.process.send_signal(signal.SIGTERM)
    assert tracer.end() == 0, tracer.said
    assert not socket.exists()
    (recording,) = recordings(tracer.output)
    assert recording.recorder is not None
    assert recording.recorder.occasions[0].reason == "mark"
    # All of the recording at once has the sums of its files.
    answer = json.loads(tracer_top("--json", tracer.output))
    assert answer["run_id"] == str(recording.run_id)
    one = of_cgroup(answer, victim)
    rows = pl.read_parquet(tracer.output / "windows/**/*.parquet", hive_partitioning=False)
    sums = rows.filter(pl.col("cgroup_id") == victim.id).select(pl.col("^(cpu|wait)_.*_ns$").sum()).row(0, named=True)
    active = sums["cpu_time_ns"] + sums["wait_time_ns"]
    assert one["ran"] == pytest.approx(sums["cpu_time_ns"] / active)
    assert one["lost"] == pytest.approx(sums["wait_behind_others_ns"] / active)
    assert one["holders"][0]["by"]["cgroup_id"] == culprit.id
    # And by the second, in a larger terminal; there is nothing to be written of it.
    terminal = new_terminal()
    terminal.start(120, 40, tracer.output)
    terminal.await_text(waits)
    terminal.press("w")
    terminal.await_text("this is a recording already")
    terminal.press("q")
    assert terminal.await_text("ended with ")[0].startswith("ended with 0")
