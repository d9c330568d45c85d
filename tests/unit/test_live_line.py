# SPDX-License-Identifier: Apache-2.0
"""The line on the terminal while a run goes on: what it says, and that nothing waits for it."""

import io
import os
import pty
import termios
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pyarrow as pa
import pytest
from recording_examples import windows_rows

from tracer.cli import live_line as module
from tracer.cli.layout import cells
from tracer.cli.live_line import line_of, live_line
from tracer.pipeline.run import Progress
from tracer.store.schemas import WINDOWS

_WINDOW_NS = 60_000_000


def progress(**changes: object) -> Progress:
    whole = Progress(3_667.9, 1_234_567, 0, 8, 1_250_000, None, _WINDOW_NS)
    return whole._replace(**changes)


def windows(name: str, share: float, kind: str = "container") -> pa.Table:
    rows = windows_rows(10, container_name=name, cgroup_kind=kind, cpu_time_ns=int(share * _WINDOW_NS))
    return pa.table(
        {field.name: pa.array([row.get(field.name) for row in rows], field.type) for field in WINDOWS.schema}
    )


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """(where what is written comes out, the terminal), which is standard error meanwhile."""
    controller, line = pty.openpty()
    os.set_blocking(controller, False)
    stream = io.TextIOWrapper(io.FileIO(line, "w", closefd=False), encoding="utf-8")
    # pytest puts its own back before the test begins.
    monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=stream))
    monkeypatch.setattr(module, "_EVERY_SECONDS", 0.01)
    yield controller, line
    monkeypatch.undo()
    os.close(controller)
    os.close(line)


def shown(controller: int) -> str:
    said = b""
    try:
        while part := os.read(controller, 65_536):
            said += part
    except BlockingIOError:
        pass
    return said.decode()


def test_it_says_how_far_the_run_is() -> None:
    assert line_of(progress()) == "01:01:07  1,234,567 records, none lost  8 files, 1.2 MB"
    assert "1,234,567 records, 42 LOST" in line_of(progress(lost=42))


def test_the_busiest_is_a_container_where_there_is_one() -> None:
    rows = pa.concat_tables([windows("app", 0.25), windows("etl", 0.75), windows("big.service", 1.5, "unit")])
    assert "  busiest etl 75 % of a CPU  " in line_of(progress(windows=rows))
    assert "busiest" not in line_of(progress(windows=windows("idle", 1.0, "idle")))


def test_names_do_no_harm() -> None:
    line = line_of(progress(windows=windows("a\x1b[2J\n" + "x" * 500, 1.0)))
    assert line.isprintable()
    assert len(line) < 140


def test_it_fits_a_terminal() -> None:
    rows = windows("shop/web-1/application", 0.12)
    told = progress(seconds=7, records=7_756, windows=rows)
    assert line_of(told, 100).endswith("busiest shop/web-1/application 12 % of a CPU  8 files, 1.2 MB")
    assert line_of(told, 79).endswith("busiest shop/w..ation 12 %  8 files, 1.2 MB")
    assert line_of(told, 59) == "00:00:07  7,756 records, none lost  8 files, 1.2 MB"
    for room in range(52, 120):
        assert len(line_of(told, room)) <= room
    wide = progress(windows=windows("\u65e5\u672c" * 20, 0.12))
    assert all(cells(line_of(wide, room)) <= room for room in range(60, 120))


def test_it_is_written_over_and_gone_at_the_end(terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    # However late its thread is.
    monkeypatch.setattr(module, "_END_SECONDS", 30)
    controller, _line = terminal
    said = ""
    with live_line(progress, quiet=False):
        while "records" not in said:
            time.sleep(0.01)
            said += shown(controller)
    said += shown(controller)
    assert "\n" not in said
    assert said.split("\r")[-2].strip() == ""


def test_a_terminal_that_is_stopped_holds_nobody_up(terminal: tuple[int, int]) -> None:
    controller, line = terminal
    termios.tcflow(line, termios.TCOOFF)
    asked = []
    with live_line(lambda: asked.append(1) or progress(), quiet=False):
        time.sleep(0.1)
    assert asked == []
    assert shown(controller) == ""
    termios.tcflow(line, termios.TCOON)


@pytest.mark.parametrize("quiet", [True, False])
def test_without_a_terminal_or_with_quiet_there_is_nothing(
    terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    controller, _line = terminal
    if not quiet:
        monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=io.StringIO()))
    with live_line(lambda: pytest.fail("asked"), quiet=quiet):
        time.sleep(0.05)
    assert shown(controller) == ""
