# SPDX-License-Identifier: Apache-2.0
"""`tracer ps`: the census of a directory tree whose files name real processes, and how it is printed."""

import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tracer.cli.ps import age_text, answer, print_table, short_name
from tracer.containers.census import CountedCgroup, take_census
from tracer.containers.identity import identify
from tracer.containers.runtime_state import RuntimeState

ID = "0123456789abcdef" * 4
OTHER_ID = "fedcba9876543210" * 4
UID = "8f0d4b7e-6f3c-4c86-9d53-0e5d3a6f1c11"
POD = f"kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice"
SCOPE = f"{POD}/cri-containerd-{ID}.scope"
NO_SUCH_PID = 2**22 + 1


def make_cgroup(root: Path, path: str, *pids: int) -> None:
    directory = root / path
    directory.mkdir(parents=True, exist_ok=True)
    for above in [directory, *directory.parents]:
        if above.is_relative_to(root) and not (above / "cgroup.procs").exists():
            (above / "cgroup.procs").write_text("")
    (directory / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))


def make_bundle(node: Path, container_id: str, **annotations: str) -> None:
    bundle = node / "run/containerd/io.containerd.runtime.v2.task/k8s.io" / container_id
    bundle.mkdir(parents=True)
    cri = {f"io.kubernetes.cri.{key.replace('_', '-')}": value for key, value in annotations.items()}
    (bundle / "config.json").write_text(json.dumps({"annotations": cri}))


def census_of(root: Path, node: Path | None = None) -> dict[str, CountedCgroup]:
    state = RuntimeState(root / "no runtime" if node is None else node)
    return {cgroup.path: cgroup for cgroup in take_census(root, state)}


@contextmanager
def process(name: str, tmp_path: Path) -> Iterator[int]:
    """A process with this name, as the kernel shows it."""
    program = tmp_path / name
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "600"]) as sleeping:
        try:
            yield sleeping.pid
        finally:
            sleeping.kill()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "cgroup"
    make_cgroup(root, "")
    return root


@pytest.fixture
def node(tmp_path: Path) -> Path:
    node = tmp_path / "node"
    make_bundle(
        node, ID,
        container_type="container", container_name="nginx", sandbox_name="web-0", sandbox_namespace="shop",
    )  # fmt: skip
    return node


def test_processes_of_a_cgroup_and_of_those_below_it(root: Path) -> None:
    make_cgroup(root, "a", 1)
    make_cgroup(root, "a/b", os.getpid(), os.getppid())
    make_cgroup(root, "c")
    processes = {path: cgroup.processes for path, cgroup in census_of(root).items()}
    assert processes == {"/": 3, "/a": 3, "/a/b": 2, "/c": 0}


def test_a_process_listed_twice_counts_once_but_each_hidden_one_counts(root: Path) -> None:
    make_cgroup(root, "a", os.getpid(), os.getpid(), 0, 0)
    assert census_of(root)["/a"].processes == 3


def test_age_is_that_of_the_oldest_process_at_or_below(root: Path, tmp_path: Path) -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    with process("x) R 1 2 (y", tmp_path) as pid:
        make_cgroup(root, "young", pid)
        make_cgroup(root, "old/middle", pid, os.getpid())
        census = census_of(root)
        after = time.clock_gettime(time.CLOCK_BOOTTIME)
    young, old, middle = (census[path].age_seconds for path in ("/young", "/old", "/old/middle"))
    assert young is not None
    assert old is not None
    one_clock_tick = 1 / os.sysconf("SC_CLK_TCK")
    assert 0 <= young <= after - before + one_clock_tick
    assert old == middle
    assert old > young
    assert census["/"].age_seconds == old


def test_the_first_process_of_the_node_has_an_age(root: Path) -> None:
    make_cgroup(root, "a", 1)
    assert census_of(root)["/a"].age_seconds is not None


def test_no_age_without_a_process_that_can_be_read(root: Path) -> None:
    make_cgroup(root, "empty")
    make_cgroup(root, "gone", NO_SUCH_PID)
    assert [(cgroup.processes, cgroup.age_seconds) for cgroup in census_of(root).values()] == [
        (1, None),
        (0, None),
        (1, None),
    ]


@pytest.mark.parametrize("content", [None, b"one\n", b"\xff\n", b"1" * 5000])
def test_processes_that_cannot_be_read_are_not_zero(root: Path, content: bytes | None) -> None:
    make_cgroup(root, "a", 1)
    (root / "a" / "threaded").mkdir()
    if content is not None:
        (root / "a" / "threaded" / "cgroup.procs").write_bytes(content)
    census = census_of(root)
    assert (census["/a/threaded"].processes, census["/a/threaded"].age_seconds) == (None, None)
    assert (census["/a"].processes, census["/"].processes) == (1, 1)


def test_a_child_follows_its_parent_whatever_its_neighbours_are_called(root: Path) -> None:
    for path in ("a/z", "a-b", "a.c", "a b"):
        make_cgroup(root, path)
    assert list(census_of(root)) == ["/", "/a", "/a/z", "/a b", "/a-b", "/a.c"]


def test_names_from_the_runtime_reach_all_cgroups_of_the_container(root: Path, node: Path) -> None:
    make_cgroup(root, f"{SCOPE}/init")
    make_cgroup(root, f"{POD}/cri-containerd-{OTHER_ID}.scope")
    make_bundle(node, OTHER_ID, container_type="sandbox", sandbox_name="web-0", sandbox_namespace="shop")
    census = census_of(root, node)
    assert {
        path: (cgroup.identity.kind, cgroup.name_source, short_name(cgroup)) for path, cgroup in census.items()
    } == {
        "/": ("other", "path", "/"),
        "/kubepods.slice": ("qos", "path", "kubepods.slice"),
        f"/{POD}": ("pod", "runtime", "shop/web-0 (pod)"),
        f"/{SCOPE}": ("container", "runtime", "shop/web-0/nginx"),
        f"/{SCOPE}/init": ("container", "runtime", "init"),
        f"/{POD}/cri-containerd-{OTHER_ID}.scope": ("sandbox", "runtime", "shop/web-0 (sandbox)"),
    }
    assert census[f"/{SCOPE}"].identity.pod_uid == UID


def test_a_container_without_names_is_called_by_its_id(root: Path) -> None:
    make_cgroup(root, f"docker/{ID}")
    cgroup = census_of(root)[f"/docker/{ID}"]
    assert (cgroup.name_source, short_name(cgroup)) == ("path", ID[:12])


def test_no_tree_is_an_empty_census(tmp_path: Path) -> None:
    assert take_census(tmp_path / "missing", RuntimeState(tmp_path)) == []


def test_tree(root: Path, node: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    make_cgroup(root, f"{SCOPE}/init")
    make_cgroup(root, "system.slice/cron.service")
    print_table(take_census(root, RuntimeState(node)), flat=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  other")[0].split("  qos")[0].rstrip() for line in lines[1:3]] == ["/", "├─ kubepods.slice"]
    assert [line.partition(" path ")[0].partition(" runtime ")[0].split() for line in lines[3:]] == [
        ["│", "└─", "shop/web-0", "(pod)", "pod"],
        ["│", "└─", "shop/web-0/nginx", "container"],
        ["│", "└─", "init", "container"],
        ["└─", "system.slice", "unit"],
        ["└─", "cron.service", "unit"],
    ]
    assert lines[4].startswith("│     └─ shop")
    assert lines[5].startswith("│        └─ init")
    assert all(len(line) <= 80 for line in lines)


def test_only_the_name_gives_way_in_a_narrow_terminal(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    make_cgroup(root, "a" * 99 + f"/docker/{ID}", *[0] * 12_345)
    print_table(take_census(root, RuntimeState(root)), flat=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-4:] for line in lines[2:]] == [
        ["other", "path", "12345", "-"],
        ["other", "path", "12345", "-"],
        ["container", "path", "12345", "-"],
    ]
    assert re.match("└─ a+…a+ ", lines[2])
    assert all(len(line) <= 50 for line in lines)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_differs_in_names_stays_in_a_narrow_terminal(
    root: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    monkeypatch.setenv("COLUMNS", "56")
    alike = [f"one-service-of-many-7d9f8c6b5d-{end}-with-a-sidecar-container" for end in ("x2x7q", "k4s9v")]
    for name in (*alike, "名前" * 20):
        make_cgroup(root, name)
    output = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", output)
    print_table(take_census(root, RuntimeState(root)), flat=False)
    output.seek(0)
    lines = output.read().splitlines()
    assert all(cell_len(line) <= 56 for line in lines)
    mark = "…" if encoding == "utf-8" else ".."
    for end in ("x2x7q", "k4s9v"):
        (line,) = (line for line in lines if end in line)
        assert f"{mark}{end}" in line
        assert line.split()[-4:] == ["other", "path", "0", "-"]


def test_flat_has_names_and_whole_paths_in_one_line_each(
    root: Path, node: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    make_cgroup(root, SCOPE)
    print_table(take_census(root, RuntimeState(node)), flat=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["CGROUP", "KIND", "SOURCE", "PROCS", "AGE", "NAME"],
        ["/", "other", "path", "0", "-", "-"],
        ["/kubepods.slice", "qos", "path", "0", "-", "-"],
        [f"/{POD}", "pod", "runtime", "0", "-", "shop/web-0", "(pod)"],
        [f"/{SCOPE}", "container", "runtime", "0", "-", "shop/web-0/nginx"],
    ]


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("name", [b"[red]x", b"[link=x]y", b"\x1b[2J", b"a\nb", b"\xff\xfe", b"y" * 255, b":smile:"])
def test_hostile_names_are_plain_text(
    root: Path, name: bytes, flat: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    os.mkdir(os.fsencode(root) + b"/" + name)  # noqa: PTH102 - a Path cannot be made of bytes
    (cgroup,) = (cgroup for path, cgroup in census_of(root).items() if path != "/")
    print_table([cgroup], flat=flat)
    _header, line = capsys.readouterr().out.splitlines()
    shown = name.decode(errors="backslashreplace").replace("\x1b", "\\x1b").replace("\n", "\\n")
    assert shown in line
    (told,) = answer([cgroup]).cgroups
    assert told.cgroup_path == f"/{shown}"
    assert line.isprintable()


def test_json_has_everything_in_full(root: Path, node: Path) -> None:
    make_cgroup(root, SCOPE)
    cgroup = census_of(root, node)[f"/{SCOPE}"]
    (told,) = answer([cgroup]).cgroups
    assert msgspec.to_builtins(told) == {
        "node_name": os.uname().nodename,
        "cgroup_id": (root / SCOPE).stat().st_ino,
        "cgroup_path": f"/{SCOPE}",
        "name": "shop/web-0/nginx",
        "name_source": "runtime",
        "cgroup_kind": "container",
        "runtime": "containerd",
        "container_id": ID,
        "container_name": "nginx",
        "pod_name": "web-0",
        "pod_uid": UID,
        "namespace": "shop",
        "qos_class": "guaranteed",
        "subpath": "",
        "processes": 0,
        "age_seconds": None,
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0s"),
        (119.9, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (400 * 86_400.0, "400d"),
    ],
)
def test_age_text(seconds: float | None, text: str) -> None:
    assert age_text(seconds) == text


@given(st.text().map(lambda text: f"/{text}"))
def test_every_cgroup_has_a_name(path: str) -> None:
    cgroup = CountedCgroup(1, path, 1, identify(path), "path", None, None)
    assert short_name(cgroup)


def test_the_command_imports_nothing_heavy() -> None:
    program = "import sys, tracer.cli.ps; print([name for name in ('polars', 'numpy', 'rich') if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert finished.stdout == "[]\n"
