# SPDX-License-Identifier: Apache-2.0
"""Completion in shells and man pages: what `--help` says, as the shell and man take it."""

import runpy
import subprocess
from pathlib import Path

import pytest

from tracer.cli.completion import bash, fish, zsh
from tracer.cli.describing import Command, describe
from tracer.cli.main import app

ROOT = Path(__file__).parents[2]
man_pages = runpy.run_path(str(ROOT / "scripts" / "man_pages.py"))


@pytest.fixture(scope="module")
def commands() -> list[Command]:
    return describe(app)


def completed(commands: list[Command], line: str, directory: Path) -> list[str]:
    """What bash offers at the end of a line, by the script itself."""
    program = (
        bash(commands) + 'read -ra COMP_WORDS <<<"$1"\n'
        '[[ $1 != *" " ]] || COMP_WORDS+=("")\n'
        'COMP_WORDS=("${COMP_WORDS[@]//=/ = }"); COMP_WORDS=($(printf "%s " "${COMP_WORDS[@]}"))\n'
        '[[ $1 != *" " ]] || COMP_WORDS+=("")\n'
        'COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); compopt() { :; }; _tracer; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", program, "bash", line], capture_output=True, text=True, check=True, cwd=directory
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("tracer re", ["recover", "report"]),
        ("tracer run --on-", ["--on-full"]),
        ("tracer run --on-full ", ["delete-oldest", "stop"]),
        ("tracer run --on-full=s", ["stop"]),
        ("tracer run -q --waits o", ["on", "off"]),
        ("tracer plot --kind he", ["heatmap"]),
        ("tracer plot results --kind he", ["heatmap"]),
        ("tracer report r", ["results"]),
        ("tracer report --html p", ["page.html"]),
        ("tracer run --nri ", ["auto", "off", "page.html", "results"]),
        ("tracer run --duration ", []),
        ("tracer simulate x --scenario cache-th", ["cache-thrash"]),
        ("tracer completion z", ["zsh"]),
        ("tracer fleet re", ["report", "results"]),
        ("tracer fleet report --engine d", ["duckdb"]),
        ("tracer --vers", ["--version"]),
        ("tracer nonsense ", []),
    ],
)
def test_bash_offers(commands: list[Command], tmp_path: Path, line: str, offered: list[str]) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "page.html").touch()
    if line == "tracer nonsense ":
        # No command yet, so that any can still come.
        assert "run" in completed(commands, line, tmp_path)
        return
    assert sorted(completed(commands, line, tmp_path)) == sorted(offered)


def test_each_shell_has_every_command_option_and_value(commands: list[Command]) -> None:
    for command in commands:
        for option in command.options:
            for name in option.names:
                assert name in bash(commands)
                assert f"*{name}" in zsh(commands)
                assert (f"-l {name[2:]} " if name.startswith("--") else f"-s {name[1:]} ") in fish(commands)
            for value in option.values:
                assert all(value in written(commands) for written in (bash, zsh, fish))
    assert {"", "run", "demo", "completion"} <= {command.name for command in commands}


def test_scripts_are_quoted_for_their_shell(commands: list[Command]) -> None:
    hostile = commands[1]._replace(summary="it's [a] $(touch x): `y` \\")
    changed = [commands[0], hostile, *commands[2:]]
    assert "it'\\''s \\[a\\] $(touch x)\\: `y` \\\\" in zsh(changed)
    assert "'it\\'s [a] $(touch x): `y` \\\\'" in fish(changed)
    assert subprocess.run(["bash", "-n"], input=bash(changed), text=True, check=False).returncode == 0


def test_each_command_has_a_man_page_with_its_options(commands: list[Command]) -> None:
    for command in commands:
        text = man_pages["page"](command, commands)
        assert text.startswith(f".TH TRACER{'-' if command.name else ''}{command.name.upper().replace(' ', '-')} 1")
        for option in command.options:
            for name in option.names:
                assert f"\\fB{name.replace('-', chr(92) + '-')}\\fR" in text
        for line in text.splitlines():
            assert not line.startswith("'")
            assert not line.startswith(".") or line.split()[0] in {".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".BR", ".I"}


def test_man_takes_the_pages(commands: list[Command], tmp_path: Path) -> None:
    assert man_pages["roff"]("'.a\n.b -c `d` \\e") == "\\&'.a\n\\&.b \\-c d \\ee"
    for command in commands:
        page = tmp_path / "page.1"
        page.write_text(man_pages["page"](command, commands))
        done = subprocess.run(
            ["groff", "-man", "-Tascii", "-P-cbou", "-ww", "-Wbreak", page],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stderr == ""
        assert "OPTIONS" in done.stdout
