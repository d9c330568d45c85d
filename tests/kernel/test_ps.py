# SPDX-License-Identifier: Apache-2.0
"""`tracer ps` on this node: a cgroup of its own with a process in it, also without rights or a cgroup2 tree."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from json_answers import answer_of

from tracer.containers.cgroupfs import find_cgroup2_mount

pytestmark = pytest.mark.root

NAME = f"tracer-test-{os.getpid()}"
NOBODY = 65534
PS = "import sys; from tracer.cli.main import main; sys.argv = ['tracer', 'ps', *sys.argv[1:]]; main()"
# The checkout may lie where only root can look, so the rights are dropped after the imports.
AS_NOBODY = (
    "import os, tracer.cli.main, rich.console, rich.table, rich.text; os.setgroups([]); "
    f"os.setresgid({NOBODY}, {NOBODY}, {NOBODY}); os.setresuid({NOBODY}, {NOBODY}, {NOBODY})\n"
)


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """`top/[red]\\xff` with one process in the lower one."""
    top = find_cgroup2_mount() / NAME
    child = top / os.fsdecode(b"[red]\xff")
    child.mkdir(parents=True)
    try:
        with subprocess.Popen(["sleep", "600"]) as sleeping:
            try:
                (child / "cgroup.procs").write_text(str(sleeping.pid))
                yield top
            finally:
                sleeping.kill()
    finally:
        child.rmdir()
        top.rmdir()


def ps(
    *arguments: str, before: str = "", command: tuple[str, ...] = (), encoding: str = "utf-8"
) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    return subprocess.run(
        [*command, sys.executable, "-c", before + PS, *arguments],
        capture_output=True,
        check=False,
        text=True,
        stdin=subprocess.DEVNULL,
        env=environment | {"PYTHONIOENCODING": encoding},
    )


def output(*arguments: str, before: str = "", encoding: str = "utf-8") -> list[str]:
    finished = ps(*arguments, before=before, encoding=encoding)
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout.splitlines()


def by_path(lines: list[str]) -> dict[str, dict[str, Any]]:
    return {found["cgroup_path"]: found for found in answer_of("ps", "\n".join(lines))["cgroups"]}


@pytest.mark.parametrize("before", ["", AS_NOBODY], ids=["root", "nobody"])
def test_json(cgroup: Path, before: str) -> None:
    census = by_path(output("--json", before=before, encoding="ascii"))
    top, child = census[f"/{NAME}"], census[f"/{NAME}/[red]\\xff"]
    assert top["cgroup_id"] == cgroup.stat().st_ino
    assert (top["processes"], child["processes"]) == (1, 1)
    assert top["age_seconds"] == child["age_seconds"] >= 0
    assert census["/"]["processes"] > 1
    assert census["/"]["age_seconds"] > top["age_seconds"]


@pytest.mark.parametrize(
    ("encoding", "guides"), [("utf-8", ("─ ", "└─ ")), ("ascii", ("- ", "`- "))], ids=["utf-8", "ascii"]
)
def test_tree(cgroup: Path, encoding: str, guides: tuple[str, str]) -> None:
    lines = output(encoding=encoding)
    assert lines[0].split() == ["CGROUP", "KIND", "SOURCE", "PROCS", "AGE"]
    position = next(number for number, line in enumerate(lines) if NAME in line)
    assert guides[0] + cgroup.name in lines[position]
    assert guides[1] + "[red]\\xff " in lines[position + 1]
    assert lines[position + 1].split()[-4:-1] == ["other", "path", "1"]
    assert all(line == line.rstrip() for line in lines)


def test_flat(cgroup: Path) -> None:
    assert any(line.startswith(f"/{cgroup.name}/[red]\\xff ") for line in output("--flat"))


def test_those_who_are_meant_stand_in_their_tree(cgroup: Path) -> None:
    below = f"/{NAME}/[red]\\xff"
    assert by_path(output("--json", "--container", below)).keys() == {below}
    lines = output("--container", str(cgroup / "*"))
    assert [line.split()[-4] for line in lines[1:]] == ["other"] * 3
    assert [line.replace("─", " ").split()[-5] for line in lines[2:]] == [NAME, "[red]\\xff"]
    nobody = ps("--container", "nobody")
    assert (nobody.returncode, nobody.stdout) == (2, "")
    assert nobody.stderr.startswith("tracer: error: no container is called 'nobody'; there are ")
    assert nobody.stderr.count("\n") == 1


def test_a_threaded_cgroup_has_no_number_of_processes(cgroup: Path) -> None:
    (parent,) = (path for path in cgroup.iterdir() if path.is_dir())
    threaded = parent / "threaded"
    threaded.mkdir()
    try:
        (threaded / "cgroup.type").write_text("threaded")
        census = by_path(output("--json"))
    finally:
        threaded.rmdir()
    path = f"/{NAME}/[red]\\xff"
    assert (census[path]["processes"], census[f"{path}/threaded"]["processes"]) == (1, None)


def test_names_from_a_state_directory_of_ones_own(cgroup: Path, tmp_path: Path) -> None:
    container_id = f"{os.getpid():064x}"
    bundle = tmp_path / "io.containerd.runtime.v2.task/k8s.io" / container_id
    bundle.mkdir(parents=True)
    (bundle / "config.json").write_text('{"annotations": {"nerdctl/name": "database"}}')
    container = cgroup / container_id
    container.mkdir()
    try:
        without = by_path(output("--json"))[f"/{NAME}/{container_id}"]
        found = by_path(output("--json", "--containerd-state", str(tmp_path)))[f"/{NAME}/{container_id}"]
    finally:
        container.rmdir()
    assert (without["name"], without["name_source"]) == (container_id[:12], "path")
    assert (found["name"], found["name_source"], found["runtime"]) == ("database", "runtime", "containerd")


def test_no_cgroup2_tree_is_one_line_and_exit_code_3() -> None:
    finished = ps(command=("unshare", "-m", "sh", "-ec", 'umount -a -l -t cgroup2; exec "$@"', "sh"))
    assert (finished.returncode, finished.stdout) == (3, "")
    assert finished.stderr.startswith("tracer: error: no cgroup2 tree is mounted; mount it: ")
    assert finished.stderr.count("\n") == 1
