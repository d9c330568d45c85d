# SPDX-License-Identifier: Apache-2.0
"""`tracer plot` as people call it."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
from planted_recording import START_NS, container, frame, windows_of, write_recording
from planted_waits import MS, Load, tables_of

from tracer.cli.main import main
from tracer.simulate import simulate
from tracer.store.schemas import TABLES

KINDS = ["timeline", "density", "matrix", "heatmap", "resources", "waits"]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("simulated")
    simulate("cache-thrash", seed=3, duration_ns=30 * 10**9, output=output)
    return output


def plot(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code."""
    monkeypatch.setattr(sys, "argv", ["tracer", "plot", *map(str, arguments)])
    try:
        main()
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    return 0


def texts(svg: Path) -> str:
    return " ".join("".join(element.itertext()) for element in ElementTree.parse(svg).getroot().iter() if element.text)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_drawn(
    simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    output = tmp_path / "picture.svg"
    assert plot(monkeypatch, simulated, "--kind", kind, "--output", output) == 0
    assert "jobs/batch-7/etl" in texts(output) or kind == "density"
    assert "shop/web-1/app" in texts(output)
    assert capsys.readouterr().err == f"tracer: {kind} in {output}\n"


def test_without_options_it_is_the_timeline_as_png_here(
    simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert plot(monkeypatch, simulated) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["timeline.png"]
    assert matplotlib.image.imread("timeline.png").shape[1] == 1650


def test_it_is_about_who_was_asked_for_in_the_time_that_was_asked_for(
    simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "picture.svg"
    arguments = ["--container", "shop/api-1/server", "--since", "14:00:10", "--until", "14:00:20"]
    assert plot(monkeypatch, simulated, *arguments, "--output", output) == 0
    assert "Cycles per instruction of shop/api-1/server" in texts(output)
    assert "2026-01-05 14:00:10 to 14:00:20 UTC" in texts(output)


def test_of_several_nodes_one_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for node in ("node-1", "node-2"):
        rows = windows_of(container(1, f"on-{node}"), range(50), node=node, llc_misses=np.arange(50))
        write_recording(tmp_path / "recording", node=node, windows=[rows])
    output = tmp_path / "picture.svg"
    assert plot(monkeypatch, tmp_path / "recording", "--node", "node-2", "--output", output) == 0
    assert "pod-1/on-node-2" in texts(output)
    assert "on-node-1" not in texts(output)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--output", "picture.pdf"], "--output 'picture.pdf': it must end in .png or .svg"),
        (["--node", "elsewhere"], "the recording has no node 'elsewhere'; there are 'node-1'"),
        (["--container", "nobody"], "no container is called 'nobody'; there is shop/pod-1/app"),
        (["--kind", "resources"], "the recording has no rows of `resources` for these containers"),
        (
            ["--kind", "density"],
            "too little of shop/pod-1/app was recorded for its density: in less than 400 windows it ran for a 60th of "
            "a core or more (a minute is better)",
        ),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_recording(tmp_path / "recording", windows=[windows_of(container(1), range(50))])
    assert plot(monkeypatch, "recording", *arguments) == 2
    assert capsys.readouterr().err == f"tracer: error: {complaint}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["recording"]


@pytest.mark.parametrize("kind", KINDS)
def test_without_counters_no_kind_claims_what_nobody_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    web, etl = container(1, "app", "web-1"), container(2, "etl", "batch-7")
    root = {"cgroup_id": 9, "cgroup_kind": "other", "cgroup_path": "/"}
    loads = [
        Load(web, range(500), 15 * MS, {2: 5 * MS}),
        Load(etl, range(500), 30 * MS, {1: 2 * MS}),
        Load(root, range(500), 50 * MS, {2: 40 * MS}),
    ]
    seconds = np.arange(31, dtype=np.uint64)
    pressure = {"node_name": "node-1", **web, "time": START_NS + seconds.astype(np.int64) * 10**9}
    resources = frame(TABLES["resources"], 31, pressure | {"io_pressure_some_total_usec": seconds * 1000})
    write_recording(tmp_path / "recording", **tables_of(loads), resources=[resources])
    output = tmp_path / "picture.svg"
    assert plot(monkeypatch, tmp_path / "recording", "--kind", kind, "--output", output) == 0
    said = texts(output)
    assert "web-1/app" in said
    assert "No container was found" not in said
    assert ("could not be told" in said) == (kind == "matrix")
    if kind in ("timeline", "waits"):
        assert "Tasks of shop/web-1/app: below the line they ran" in said
        assert "waited behind shop/batch-7/etl" in said
    if kind == "heatmap":
        assert "Waiting for a CPU, in tasks (highest window)" in said
    if kind == "resources":
        assert "memory.current was not recorded" in said
        assert "mB" not in said


def test_a_place_where_nothing_can_be_written_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_recording(tmp_path / "recording", windows=[windows_of(container(1), range(50))])
    output = tmp_path / "no" / "where.png"
    assert plot(monkeypatch, tmp_path / "recording", "--output", output) == 4
    assert capsys.readouterr().err == f"tracer: error: cannot write {str(output)!r}: No such file or directory\n"


def test_the_help_of_tracer_loads_nothing_that_draws() -> None:
    command = [sys.executable, "-X", "importtime", "-c", "from tracer.cli.main import main; main()", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "plot" in done.stdout
    assert not {"matplotlib", "jinja2", "polars", "numpy"} & {
        line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "|" in line
    }
