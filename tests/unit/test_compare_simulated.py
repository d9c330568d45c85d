# SPDX-License-Identifier: Apache-2.0
"""`tracer compare` on runs of a node that does not exist, of which is known what is the same in both."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from tracer.cli.main import app
from tracer.errors import UsageError
from tracer.simulate import simulate
from tracer.simulate.scenario import Scenario
from tracer.simulate.scenarios import build_scenario
from tracer.simulate.shape import NodeShape

SHAPE = NodeShape(cpus=4, llc_domains=1)
SECOND_NS = 10**9
MODEST = ("cpi>5%", "misses_per_kilo_instruction>10%", "instructions_per_second<-10%", "cores>10%")


def cast(name: str, *, seed: int) -> Scenario:
    return build_scenario(name, shape=SHAPE, seed=seed, containers=6)


def run(scenario: Scenario, output: Path, *, seed: int, seconds: int) -> Path:
    """One of the runs that this cast could have had; the seed is of what chance does to it."""
    simulate(scenario, seed=seed, duration_ns=seconds * SECOND_NS, output=output, shape=SHAPE)
    return output


def compare(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)], env={"COLUMNS": "80"})


def fail_on(*limits: str) -> list[str]:
    return [argument for limit in limits for argument in ("--fail-on", limit)]


@pytest.mark.parametrize(("name", "seed"), [("quiet", 1), ("cache-thrash", 2), ("decoy", 3), ("lost-counters", 4)])
def test_two_runs_of_the_same_exceed_no_modest_limit(tmp_path: Path, name: str, seed: int) -> None:
    scenario = cast(name, seed=seed)
    sides = [run(scenario, tmp_path / str(other), seed=other, seconds=20) for other in (101, 102)]
    result = compare(*sides, *fail_on(*MODEST))
    assert result.exit_code == 0, result.stdout + result.stderr
    assert result.stdout.count("exceeded by none") == len(MODEST)


def test_a_planted_change_is_found_and_told(tmp_path: Path) -> None:
    scenario = cast("quiet", seed=5)
    slower = [
        msgspec.structs.replace(container, cpi=1.35 * container.cpi)
        if container.label == "shop/web-1/app"
        else container
        for container in scenario.containers
    ]
    before = run(scenario, tmp_path / "a", seed=1, seconds=120)
    after = run(msgspec.structs.replace(scenario, containers=slower), tmp_path / "b", seed=2, seconds=120)

    result = compare(before, after, *fail_on("cpi>5%"))
    assert result.exit_code == 1
    assert result.stderr == "tracer: limit exceeded: cpi>5%\n"
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    changed = lines[lines.index("CHANGED (the chance that any of these lines is noise is at most 5 %)") + 2 :]
    assert changed[0].startswith("shop/web-1/app, ")
    assert "cpi>5%: EXCEEDED by shop/web-1/app" in result.stdout

    told = json.loads(compare(before, after, "--json").stdout)
    (web,) = (one for one in told["workloads"] if one["name"] == "shop/web-1/app")
    (cpi,) = (change for change in web["changes"] if change["metric"] == "cpi")
    assert cpi["holds"]
    assert cpi["low"] <= 0.35 <= cpi["high"]
    assert told["workloads"][0]["name"] == "shop/web-1/app"
    # The other way round it is an improvement.
    assert compare(after, before, *fail_on("cpi>5%")).exit_code == 0
    assert compare(after, before, *fail_on("cpi<-5%")).exit_code == 1


def test_time_ranges_and_runs_of_one_directory(tmp_path: Path) -> None:
    scenario = cast("quiet", seed=6)
    output = run(scenario, tmp_path / "runs", seed=1, seconds=20)
    halves = compare(f"{output}@..+10s", f"{output}@+10s..")
    assert halves.exit_code == 0, halves.stderr
    # Windows begin within: one may lie across the end.
    said = " ".join(halves.stdout.split())
    assert "10.02 s from 2026-01-05 14:00:00 UTC" in said
    assert "9.98 s from 2026-01-05 14:00:10 UTC" in said
    run(scenario, output, seed=2, seconds=20)
    ids = sorted(path.parent.name for path in output.glob("runs/*/session.json"))
    both = compare(f"{output}@{ids[0]}", f"{output}@{ids[1][:6]}", "--namespace", "shop", "--all")
    assert both.exit_code == 0, both.stderr
    assert "jobs/" not in both.stdout
    assert "shop/web-1/app" in both.stdout


def test_what_is_asked_wrongly_is_refused(tmp_path: Path) -> None:
    output = run(cast("quiet", seed=7), tmp_path / "run", seed=1, seconds=2)
    for arguments, said in (
        ((tmp_path / "none", output), "cannot read"),
        ((tmp_path, output), "holds no recording"),
        ((f"{output}@feedbeef", output), "no run begins with 'feedbeef'"),
        ((output, output, "--fail-on", "cpi>>5%"), "--fail-on: not a limit"),
        (
            (output, output, "--container", "nobody", "--fail-on", "cpi>5%"),
            "no container is called 'nobody'; there are",
        ),
        (
            (output, output, "--namespace", "nowhere"),
            "nothing of namespace 'nowhere' was recorded then; there are shop",
        ),
        ((f"{output}@tomorrow..", output), "not a time: 'tomorrow'"),
    ):
        result = compare(*arguments)
        assert isinstance(result.exception, UsageError)
        assert said in str(result.exception)
        assert result.stdout == ""


def test_a_broken_file_is_named_and_costs_itself(tmp_path: Path) -> None:
    output = run(cast("quiet", seed=7), tmp_path / "run", seed=1, seconds=2)
    (path,) = output.glob("windows/*/*/*.parquet")
    path.write_bytes(path.read_bytes()[:-1000])
    command = [sys.executable, "-m", "tracer.cli.main", "compare", output, output, "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert path.name in result.stdout
    for other in set(output.glob("*/*/*/*.parquet")) - {path}:
        other.unlink()
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert path.name in result.stderr
    assert result.stderr.count("\n") == 1
