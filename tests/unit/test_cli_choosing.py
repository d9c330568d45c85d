# SPDX-License-Identifier: Apache-2.0
"""`--container` and `--namespace`: the same in all commands."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from json_answers import answer_of
from planted_recording import container, windows_of, write_recording

from tracer.cli.main import main

# Of two clusters in one machine each, as `kind` makes them, and one whose names nobody could read.
NAMELESS = container(9) | {"container_name": None, "pod_name": None, "namespace": None}
PEOPLE = [
    container(1, "etcd", "etcd-a-control-plane", "kube-system"),
    container(2, "etcd", "etcd-b-control-plane", "kube-system"),
    container(3, "app", "web-7d9f8c6b5d-x2x7q"),
    container(4, "app", "web-7d9f8c6b5d-k4s9v", "blog"),
    NAMELESS,
]
NAMELESS_NAME = "pod00000009-0000-4000-8000-000000000000/000000000000"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    windows = [windows_of(who, range(200), cpu_time_ns=10_000_000 * number) for number, who in enumerate(PEOPLE, 1)]
    return write_recording(tmp_path_factory.mktemp("recording"), windows=windows)


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tracer", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def names(tracer: Any, recording: Path, *options: str) -> set[str]:
    code, out, _err = tracer("report", recording, "--json", *options)
    assert code == 0
    return {one["container"]["name"] for one in answer_of("report", out)["activity"]}


def test_a_name_is_the_same_in_all_commands(recording: Path, tracer: Any, tmp_path: Path) -> None:
    all_names = names(tracer, recording)
    assert all_names == {
        "kube-system/etcd-a-control-plane/etcd",
        "kube-system/etcd-b-control-plane/etcd",
        "shop/web-7d9f8c6b5d-x2x7q/app",
        "blog/web-7d9f8c6b5d-k4s9v/app",
        NAMELESS_NAME,
    }
    assert tracer("export", "--perfetto", tmp_path / "trace", recording)[0] == 0
    assert all(name.encode() in (tmp_path / "trace").read_bytes() for name in all_names)
    told = answer_of("compare", tracer("compare", recording, recording, "--json")[1])
    assert {one["name"] for one in told["workloads"]} == {
        "kube-system/etcd-a-control-plane/etcd",
        "kube-system/etcd-b-control-plane/etcd",
        "shop/web/app",
        "blog/web/app",
        NAMELESS_NAME,
    }


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--container", "etcd"], {1, 2}),
        (["--container", "etcd-a-control-plane", "--container", "blog/web/app"], {1, 4}),
        (["--container", "shop/*", "--container", f"{9:08}"], {3, 9}),
        (["--container", "*/app", "--namespace", "blog"], {4}),
        (["--container", PEOPLE[2]["container_id"]], {3}),
        (["--container", f"containerd://{4:064x}"], {4}),
        (["--container", "00000009_0000"], {9}),
        (["--container", "/kubepods/pod3"], {3}),
        (["--container", NAMELESS_NAME], {9}),
    ],
)
def test_those_who_are_meant(recording: Path, tracer: Any, options: list[str], found: set[int]) -> None:
    code, out, _err = tracer("report", recording, "--json", *options)
    assert code == 0
    assert {one["container"]["cgroup_id"] for one in answer_of("report", out)["activity"]} == found
    told = json.loads(tracer("compare", recording, recording, "--json", *options)[1])
    assert {who["cgroup_id"] for one in told["workloads"] for who in one["containers_after"]} == found


@pytest.mark.parametrize("command", ["report", "plot", "export", "compare"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--container", "etdc"], "no container is called 'etdc'; there are kube-system/etcd-a-control-plane/etcd, "),
        (["--container", "etcd", "--container", "no\n"], r"no container is called 'no\\n'; there are "),
        (
            ["--namespace", "nowhere"],
            "nothing of namespace 'nowhere' was recorded then; there are blog, kube",
        ),
        (["--namespace", "blog", "--container", "etcd"], "none of etcd is in namespace 'blog'"),
    ],
)
def test_who_means_nobody_is_told_who_is_there(
    recording: Path, tracer: Any, tmp_path: Path, command: str, options: list[str], said: str
) -> None:
    arguments = {
        "report": [recording],
        "plot": [recording, "--output", tmp_path / "picture.svg"],
        "export": [recording, "--perfetto", tmp_path / "trace"],
        "compare": [recording, recording],
    }[command]
    code, out, err = tracer(command, *arguments, *options)
    assert (code, out) == (2, "")
    assert err.startswith(f"tracer: error: {said}")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())
