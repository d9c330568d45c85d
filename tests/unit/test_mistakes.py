# SPDX-License-Identifier: Apache-2.0
"""Mistakes in the call: one line in one style, exit code 2, and what may have been meant."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tracer.cli.main import app
from tracer.cli.mistakes import explain
from tracer.errors import TracerError
from tracer.suggestions import close_to, not_among


def mistake(arguments: list[str]) -> str:
    """What is said of it after `tracer: error: `."""
    result = CliRunner().invoke(app, arguments, standalone_mode=False)
    assert result.exception is not None
    if isinstance(result.exception, TracerError):
        assert result.exception.exit_code == 2
        return str(result.exception)
    return explain(result.exception)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rum"], "no command 'rum'; did you mean 'run'? (see tracer --help)"),
        (["REPORT"], "no command 'REPORT'; did you mean 'report'"),
        (["--versoin"], "no option '--versoin'; did you mean '--version'"),
        (["run", "--ouput", "x"], "no option '--ouput'; did you mean '--output'? (see tracer run --help)"),
        (["run", "--Duration", "x"], "no option '--Duration'; did you mean '--duration'"),
        (["simulate", "--smd"], "no option '--smd'; did you mean '--smt'"),
        (["plot", "x", "--kind", "tineline"], "--kind: no value 'tineline'; did you mean 'timeline'"),
        (["run", "--waits", "onn"], "no value 'onn'; did you mean 'on'"),
        (["run", "--on-full", "x"], "no value 'x'; there are delete-oldest, stop"),
        (["completion", "bsh"], "no value 'bsh'; did you mean 'bash'"),
        (["simulate", "x", "--scenario", "cache-trash"], "no scenario 'cache-trash'; did you mean 'cache-thrash'"),
        (["simulate", "x", "--machine", "fysical"], "no machine 'fysical'; did you mean 'physical'"),
        (["doctor", "--event", "cycels=cycles"], "no counter 'cycels'; did you mean 'cycles'"),
        (["doctor", "--event", "cycles=LLC-load-mises"], "no event 'LLC-load-mises'; did you mean 'LLC-load-misses'"),
        (["compare", "a", "b", "--fail-on", "instructoins_per_second>5%"], "did you mean 'instructions_per_second'"),
        (["plot"], "missing argument 'DIR...'"),
        (["run", "--window"], "option '--window' requires an argument (see tracer run --help)"),
        (["run", "--sync=yes"], "option '--sync' does not take a value (see tracer run --help)"),
        (["run", "--window", "many"], "--window: not a number (see tracer run --help)"),
        (["run", "--rotate", "x"], "--rotate: not a duration: 'x'"),
        (["run", "--keep", "x"], "--keep: not a size: 'x'"),
        (["simulate", "x", "--duration", "x"], "--duration: not a duration: 'x'"),
        (["run", "-o", "-"], "--output -: results are a directory of files"),
        (["demo", "-o", "-"], "--output -: results are a directory of files"),
        (["report", "--json", "--html", "-", "x"], "--json and --html - both write to standard output"),
        (["simulate", "-"], "DIR -: results are a directory of files"),
        (
            ["run", "-o", "s3://bucket/results"],
            "--output must be a directory, not s3://…: `--upload` brings results to",
        ),
        (["simulate", "gs://bucket/results"], "DIR must be a directory, not gs://…"),
        (["runs", "file:///srv/none"], "DIR must be a directory, not file://…"),
        (["recover", "az://container/results"], "DIR must be a directory, not az://…"),
        (["upload", "s3://one/results", "s3://other/results"], "DIR must be a directory, not s3://…"),
        (["doctor", "--output", "s3://bucket/results"], "--output must be a directory, not s3://…"),
        (["run", "results", "more"], "too many arguments: 'results more' (see tracer run --help)"),
        (["completion"], "missing argument 'bash|zsh|fish'; there are bash, zsh, fish"),
        (["run", "--\x1b[31m\n"], "no option '--\\x1b[31m\\n'"),
    ],
)
def test_a_mistake_is_one_line_with_what_may_have_been_meant(arguments: list[str], said: str) -> None:
    line = mistake(arguments)
    assert said in line
    assert line.isprintable()


def test_it_is_the_style_of_all_errors() -> None:
    done = subprocess.run([sys.executable, "-m", "tracer.cli.main", "rum"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "tracer: error: no command 'rum'; did you mean 'run'? (see tracer --help)\n"


def test_what_is_like_nothing_is_told_what_there_is() -> None:
    assert not_among("table", "tick", ["ticks", "waits"]) == "no table 'tick'; did you mean 'ticks'?"
    assert not_among("table", "x", ["ticks", "waits"]) == "no table 'x'; there are ticks, waits"
    assert close_to("x", ["ticks"]) == ""
    assert not_among("run", "x", map(str, range(100, 200))).endswith("139 and 60 more")


def test_help_shows_no_types_of_python() -> None:
    commands = ["", *(one.callback.__name__ for one in app.registered_commands if one.callback)]
    for command in commands:
        shown = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "80"}).output
        assert "Usage: " in shown
        assert not re.search(r"<\w+(\[\w+\])?>|<[\w|-]+>", shown.replace("runs/<run id>/", "")), shown


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"keep = " + b"[" * 2000, "is not TOML that is read: it is nested too deeply"),
        (b"#" * (2**20 + 1), "it is longer than 1048576 bytes"),
        (b'keep = "\xff"', "is not TOML: "),
        (b"keep = 7", "keep must be a string"),
    ],
)
def test_a_configuration_that_is_none(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "tracer.toml"
    path.write_bytes(content)
    assert said in mistake(["run", "--config", str(path)])
