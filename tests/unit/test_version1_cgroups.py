# SPDX-License-Identifier: Apache-2.0
"""Containers that only hierarchies of version 1 know, by what processes say of their cgroups."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.containers.identity import ContainerKey, identify
from tracer.containers.runtime_state import RuntimeState
from tracer.containers.version1 import Hidden, Membership, describe, find_hidden, is_hybrid, parse_membership
from tracer.preflight.node import judge_version1

ID, OTHER_ID = "0123456789abcdef" * 4, "fedcba9876543210" * 4
UID = "8f0d4b7e-6f3c-4c86-9d53-0e5d3a6f1c11"
DAEMON = "/system.slice/containerd.service"


def put(proc: Path, name: str | int, *lines: str) -> None:
    (proc / str(name)).mkdir(parents=True)
    (proc / str(name) / "cgroup").write_text("".join(f"{line}\n" for line in lines))


def hidden(proc: Path) -> list[tuple[str, str | None, str]]:
    return sorted((one.key.container_id, one.identity.runtime, one.counted_as) for one in find_hidden(proc))


def test_membership_of_a_hybrid_node() -> None:
    text = f"12:memory:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::{DAEMON}\n"
    assert parse_membership(text) == Membership(DAEMON, (f"/docker/{ID}", f"/docker/{ID}"))
    assert parse_membership("0::/a:b:c\n") == Membership("/a:b:c", ())
    assert parse_membership("4:memory:/a:b\n0::/\n1:x\n:\nnonsense") == Membership("/", ("/a:b",))


@pytest.mark.parametrize(
    ("version1", "version2", "expected"),
    [
        (f"/docker/{ID}", DAEMON, ("docker", DAEMON)),
        (f"/docker/{ID}", "/", ("docker", "/")),
        (f"/docker/{ID}/init", "/system.slice/docker.service", ("docker", "/system.slice/docker.service")),
        (f"/kubepods/burstable/pod{UID}/{ID}", DAEMON, (None, DAEMON)),
        (f"/system.slice/x.slice:cri-containerd:{ID}", DAEMON, ("containerd", DAEMON)),
        # In a container of the same machine: counted as that.
        (f"/docker/{OTHER_ID}/docker/{ID}", f"/docker/{OTHER_ID}", ("docker", f"/docker/{OTHER_ID}")),
        # By systemd's driver it has one of either version.
        (f"/system.slice/docker-{ID}.scope", f"/system.slice/docker-{ID}.scope", None),
        (f"/docker/{ID}", f"/docker/{ID}/init", None),
        (f"/machine.slice/libpod-conmon-{ID}.scope", DAEMON, None),
        (f"/kubepods/burstable/pod{UID}", DAEMON, None),
        (DAEMON, DAEMON, None),
        ("/", "/", None),
    ],
)
def test_who_is_counted_as_somebody_else(
    tmp_path: Path, version1: str, version2: str, expected: tuple[str | None, str] | None
) -> None:
    put(tmp_path, 7, "9:pids:/", f"4:memory:{version1}", f"1:name=systemd:{version1}", f"0::{version2}")
    put(tmp_path, "self", "4:memory:/", "0::/")
    assert hidden(tmp_path) == ([] if expected is None else [(ID, *expected)])
    assert is_hybrid(tmp_path)


def test_each_container_once_and_only_processes(tmp_path: Path) -> None:
    for pid in range(1, 6):
        put(tmp_path, pid, f"4:memory:/docker/{ID}", f"0::{DAEMON}")
    put(tmp_path, 6, f"4:memory:/docker/{ID}", "0::/")
    put(tmp_path, "asound", f"4:memory:/docker/{OTHER_ID}", "0::/")
    (tmp_path / "8").mkdir()
    (tmp_path / "9").write_text("")
    assert hidden(tmp_path) == [(ID, "docker", "/"), (ID, "docker", DAEMON)]


@pytest.mark.parametrize("lines", [[], ["4:memory:/"], ["0::/"]])
def test_a_node_of_one_version_is_not_hybrid(tmp_path: Path, lines: list[str]) -> None:
    put(tmp_path, "self", *lines)
    assert not is_hybrid(tmp_path)
    assert not is_hybrid(tmp_path / "missing")


def test_without_version_2_nothing_is_counted_and_nobody_hidden(tmp_path: Path) -> None:
    put(tmp_path, 1, f"4:memory:/docker/{ID}")
    assert hidden(tmp_path) == hidden(tmp_path / "missing") == []


def test_a_container_without_an_id_is_known_by_its_path(tmp_path: Path) -> None:
    put(tmp_path, 1, "9:pids:/lxc/web/ns", "0::/system.slice/lxc.service")
    put(tmp_path, 2, "9:pids:/lxc.payload.web/init.scope", "0::/lxc.payload.web")
    assert hidden(tmp_path) == [("/lxc/web", "lxc", "/system.slice/lxc.service")]
    assert describe(find_hidden(tmp_path), RuntimeState(tmp_path)) == (
        "a container has no cgroup of version 2: web is counted as /system.slice/lxc.service"
    )


def some_hidden(number: int, counted_as: str = DAEMON) -> Hidden:
    return Hidden(ContainerKey(f"{number:064x}"), identify(f"/docker/{number:064x}"), counted_as)


def test_what_is_said_of_them(tmp_path: Path) -> None:
    state = RuntimeState(tmp_path)
    assert describe([], state) is None
    container = tmp_path / "var/lib/docker/containers" / f"{2:064x}"
    container.mkdir(parents=True)
    (container / "config.v2.json").write_text(json.dumps({"Name": "/web\x1b"}))
    assert describe([some_hidden(1)], state) == (
        f"a container has no cgroup of version 2: 000000000000 is counted as {DAEMON}"
    )
    assert describe([some_hidden(1), some_hidden(2), some_hidden(3, "/")], state) == (
        "3 containers have no cgroups of version 2: "
        f"000000000000 is counted as /; 000000000000, web\\x1b are counted as {DAEMON}"
    )
    many = describe([some_hidden(number) for number in range(100)], state)
    assert many is not None
    assert many.startswith("100 containers have")
    assert f"and 96 more are counted as {DAEMON}" in many


def test_the_doctor_warns_of_them() -> None:
    finding = judge_version1("a container has …", hybrid=True)
    assert (finding.status, finding.found) == ("warning", "a container has …")
    assert finding.remedy is not None
    assert "systemd.unified_cgroup_hierarchy" in finding.remedy
    assert judge_version1(None, hybrid=True).status == judge_version1(None, hybrid=False).status == "ok"


@given(text=st.text() | st.lists(st.text(alphabet="0:/a\n")).map("\n".join))
def test_any_text_has_members_or_none(text: str) -> None:
    membership = parse_membership(text)
    assert all(path.startswith("/") for path in membership.version1)


def test_hostile_paths_are_printable(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_bytes(f"4:memory:/docker/{ID}\n0::/".encode() + b"\x1b]0;a\xff\n")
    assert hidden(tmp_path) == [(ID, "docker", "/\\x1b]0;a\\xff")]
