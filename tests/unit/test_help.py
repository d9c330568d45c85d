# SPDX-License-Identifier: Apache-2.0
"""`--help` of every command: nothing is cut, and nothing drawn around it."""

import subprocess
import sys

import pytest
from rich.cells import cell_len
from typer.main import get_group
from typer.testing import CliRunner

from tracer.cli.describing import describe
from tracer.cli.main import app

COMMANDS = {one.name: one for one in describe(app)}


def help_of(name: str, monkeypatch: pytest.MonkeyPatch, columns: str) -> str:
    monkeypatch.setenv("COLUMNS", columns)
    result = CliRunner().invoke(app, [*name.split(), "--help"], prog_name="tracer")
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("columns", ["", "80", "60", "40"])
def test_the_help_has_all_there_is_in_lines_that_fit(name: str, columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = help_of(name, monkeypatch, columns)
    lines = shown.removesuffix("\n").split("\n")
    assert lines[0].startswith(" ".join(filter(None, ["Usage: tracer", name])))
    assert [line for line in lines if line != line.rstrip() or not line.isprintable()] == []
    if columns:
        assert max(map(cell_len, lines)) <= int(columns)
    assert not {"╭─", "│", "<bool>", "TEXT"} & {*shown.split()}
    # Whatever the lines are.
    squeezed = "".join(shown.split())
    for one in (*COMMANDS[name].options, *COMMANDS[name].arguments):
        names = sorted(one.names, key=lambda name: name.startswith("--"))
        assert "".join(f"{','.join(names)}{one.metavar}{one.help}".split()) in squeezed


def test_without_arguments_the_help_is_printed() -> None:
    called = subprocess.run([sys.executable, "-m", "tracer.cli.main"], capture_output=True, text=True, check=False)
    asked = subprocess.run([sys.executable, "-m", "tracer.cli.main", "-h"], capture_output=True, text=True, check=True)
    assert (called.returncode, called.stdout, called.stderr) == (2, asked.stdout, "")
    assert all(f"  {name} " in asked.stdout for name in get_group(app).commands)
