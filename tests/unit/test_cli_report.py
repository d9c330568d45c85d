# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys
from pathlib import Path

import pytest
from json_answers import answer_of
from planted_recording import container, write_recording
from planted_waits import MS, SELF, Load, tables_of
from recording_examples import windows_rows, write_rows

from tracer.simulate import simulate
from tracer.store.schemas import IDENTITY

HOSTILE = "[red]a\x1b[2J\x00b\n‮"


def run_report(*arguments: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tracer.cli.main", "report", *arguments],
        env={**os.environ, "COLUMNS": "80", "OPENBLAS_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("simulated")
    simulate("cache-thrash", seed=3, duration_ns=20 * 10**9, output=directory)
    return directory


def test_the_finding_comes_first_in_80_columns(output: Path) -> None:
    done = run_report(output)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("shop/web-1/app lost ")
    assert "jobs/batch-7/etl" in done.stdout.splitlines()[0] + done.stdout.splitlines()[1]
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "What could have hidden something" in done.stdout
    commands = [line.strip() for line in done.stdout.splitlines() if "tracer verify" in line]
    assert "tracer verify shop/web-1/app jobs/batch-7/etl" in commands
    assert len(set(commands)) == len(commands) <= 3


def test_json_is_all_of_it(output: Path) -> None:
    found = answer_of("report", run_report(output, "--json").stdout)
    assert found["victims"][0]["aggressors"][0]["container"]["name"] == "jobs/batch-7/etl"
    assert found["start"].endswith("Z")


def test_a_terminal_without_unicode_gets_none(output: Path) -> None:
    done = run_report(output, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert "\\u" not in done.stdout


def test_names_do_no_harm(tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(40, container_name=HOSTILE, pod_name=HOSTILE))
    done = run_report(tmp_path)
    assert done.returncode == 0
    assert "[red]a\\x1b[2J" in done.stdout.replace("\n", "").replace(" ", "")
    assert all(character.isprintable() or character == "\n" for character in done.stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/nonexistent"], "cannot read '/nonexistent'"),
        (["{output}", "--since", "tomorrow"], "not a time: 'tomorrow'"),
        (["{output}", "--since", "2030-01-01"], "nothing was recorded then"),
        (["/etc/hostname"], "is not a directory"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(output: Path, arguments: list[str], message: str) -> None:
    done = run_report(*(argument.format(output=output) for argument in arguments))
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.fixture(scope="module")
def with_waits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("waits")
    web, etl = container(1, "app", HOSTILE), container(2, "etl", "batch-7")
    loads = [
        Load(web, range(500), 9 * MS, {2: 9 * MS, SELF: 3 * MS}, stolen=3 * MS),
        Load(etl, range(500), 45 * MS, {1: 9 * MS}, stolen=None),
    ]
    return write_recording(output, **tables_of(loads))


def test_waits_are_told_in_80_columns_and_names_in_them_do_no_harm(with_waits: Path) -> None:
    done = run_report(with_waits)
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "waited in the run queue 20 % of the time" in " ".join(done.stdout.split())
    assert not set(done.stdout) & {"\x1b", "\x00", "\u202e"}
    (row,) = (line for line in done.stdout.splitlines() if line.startswith("  shop/batch-7/etl"))
    assert row.split() == ["shop/batch-7/etl", "0", "75", "15", "0", "0", "0", "-", "its", "fair", "share"]


def test_waits_are_told_to_a_terminal_without_unicode(with_waits: Path) -> None:
    done = run_report(with_waits, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0
    assert done.stdout.isascii()


def test_json_has_where_the_time_went(with_waits: Path) -> None:
    found = answer_of("report", run_report(with_waits, "--json").stdout)
    web = found["time_spent"][0]
    wait = sum(web[f"wait_{part}_ns"] for part in ("behind_others", "behind_self", "throttled", "idle", "unknown"))
    assert wait == 500 * 12 * MS
    who = found["costs"][0]["by"]
    assert who.keys() == {"name", "cgroup_ids", *(field.name for field in IDENTITY)}
    assert (len(who["container_id"]), len(who["pod_uid"]), who["cgroup_kind"]) == (64, 36, "container")
    assert found["costs"][0]["by"]["name"] == "shop/batch-7/etl"
    assert found["time_spent"][1]["stolen_time_ns"] is None
