# SPDX-License-Identifier: Apache-2.0
"""What `tracer compare` prints."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from json_answers import answer_of
from recording_examples import write_rows
from test_compare import container, windows

from tracer.store.schemas import IDENTITY


def tracer_compare(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tracer.cli.main", "compare", *map(str, arguments)]
    env = {**os.environ, "COLUMNS": "80", **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Fifteen workloads that changed, one of these by name hostile, fifteen that did not, four that are new."""
    a, b = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b")
    for output, seed, cpi in ((a, 1, 1.2), (b, 2, 1.5)):
        rows = []
        for number in range(15):
            name = "evil\x1b[2J\n[bold]x" + "y" * 99 if number == 3 else f"slow-{number}"
            rows += windows(seed, number + 1, cpi=cpi, at=range(200), **container(name))
            rows += windows(seed, number + 101, at=range(200), **container(f"same-{number}"))
        if output == b:
            for number in range(4):
                rows += windows(
                    seed, number + 201, load=0.1 * (number + 1), at=range(200), **container(f"new-{number}")
                )
        write_rows(output, "windows", rows)
    return a, b


def test_the_text_fits_a_terminal_and_says_what_it_leaves_out(sides: tuple[Path, Path]) -> None:
    result = tracer_compare(*sides, "--fail-on", "cores>10%")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert re.search(r"\n\.\.\. and 5 more, with \S+ cores at stake or less \(--all shows them\)\n", result.stdout)
    assert re.search(r"\n\.\.\. and 5 more, of \S+ cores in B or less \(--all shows them\)\n", result.stdout)
    only = ", ".join(rf"shop/new-{number}/app \(\S+ cores\)" for number in (3, 2, 1))
    assert re.search(f"ONLY IN B: {only}, and 1 more", " ".join(result.stdout.split()))
    assert "\x1b" not in result.stdout
    assert "note: A and B: shorter than 10 s" not in result.stdout
    assert "cores>10%: exceeded by none of 30, surely kept by 30" in result.stdout


def test_all_shows_all_of_it(sides: tuple[Path, Path]) -> None:
    result = tracer_compare(*sides, "--all")
    assert "more" not in result.stdout
    for number in range(15):
        assert number == 3 or f"shop/slow-{number}/app" in result.stdout
        assert f"shop/same-{number}/app" in result.stdout
    assert result.stdout.count("  switches/s ") == 30


def test_it_can_be_printed_without_unicode(sides: tuple[Path, Path]) -> None:
    for options in ((), ("--json",)):
        result = tracer_compare(*sides, *options, LC_ALL="C", PYTHONIOENCODING="ascii")
        assert result.returncode == 0, result.stderr
        assert result.stdout.isascii()


def test_json_has_everything(sides: tuple[Path, Path]) -> None:
    result = tracer_compare(*sides, "--json", "--fail-on", "cpi>10%")
    assert result.returncode == 1
    assert result.stderr == "tracer: limit exceeded: cpi>10%\n"
    told = answer_of("compare", result.stdout)
    assert len(told["workloads"]) == 30
    for side in ("before", "after"):
        (who,) = told["workloads"][0][f"containers_{side}"]
        assert who.keys() == {"name"} | {field.name for field in IDENTITY}
        assert who["name"].startswith(f"shop/{who['pod_name']}/")
        assert (who["node_name"], who["namespace"]) == ("node-1", "shop")
    assert [one["name"] for one in told["only_after"]] == [f"shop/new-{number}/app" for number in (3, 2, 1, 0)]
    (verdict,) = told["verdicts"]
    assert len(verdict["exceeded"]) == 15
    assert verdict["kept"] + verdict["undecided"] == 15
    cpi = told["workloads"][0]["changes"][0]
    assert (cpi["metric"], cpi["holds"]) == ("cpi", True)
    assert cpi["low"] < 0.25 < cpi["high"]


def test_the_reader_of_a_pipe_may_leave(sides: tuple[Path, Path]) -> None:
    command = f"{sys.executable} -m tracer.cli.main compare {sides[0]} {sides[1]} --all | head -1"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert result.stderr == ""
