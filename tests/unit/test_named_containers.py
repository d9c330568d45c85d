# SPDX-License-Identifier: Apache-2.0
"""Containers whose runtime gives them names and no ids, and what groups containers that is no pod of Kubernetes.

By the forms that the runtimes document or have in their source; LXC 6.0 and systemd-nspawn 252 were seen to use theirs.
"""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.containers.identity import ContainerKey, Identity, identify, printable_path, recognize
from tracer.containers.path_names import name_in

ID = "0123456789abcdef" * 4
ALLOCATION = "4744f0ea-7616-ab3a-a420-8e25056e3861"
TASK = "e95a40efbde84cbc8600660a109ec194"
POD = "fedcba9876543210" * 4
ROWS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "named_cgroup_paths.json").read_text(encoding="utf-8")
)
# Where all of them may be, too: version 1, in a slice of the administrator's, in a container.
PLACES = ["", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified", "/my.slice/my-own.slice", "/a/b"]
OUTER = f"/system.slice/docker-{ID}.scope"


@pytest.mark.parametrize("place", [*PLACES, OUTER])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["where"])
def test_collected_paths(row: dict[str, Any], place: str) -> None:
    identity, key = recognize(place + row["path"])
    above = place.removeprefix("/sys/fs/cgroup/memory").removeprefix("/sys/fs/cgroup/unified")
    assert identity == Identity(
        kind=row["kind"],
        runtime=row["runtime"],
        container_id=above + row["path"].removesuffix(f"/{row['subpath']}") if row["kind"] == "container" else None,
        container_name=row["container_name"],
        pod_uid=row["pod_uid"],
        subpath=row["subpath"],
    )
    # The path has told all: no state is searched for what somebody has called so.
    assert key is None


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("path", "runtime", "container_id", "pod_uid"),
    [
        (f"/ecs/{TASK}/{ID}", None, ID, TASK),
        (f"/ecs/{ALLOCATION}/{ID}", None, ID, ALLOCATION),
        (f"/ecs/{TASK}/{TASK}-2158391741", "containerd", f"{TASK}-2158391741", TASK),
        (f"/ecstasks.slice/ecstasks-{TASK}.slice/docker-{ID}.scope", "docker", ID, TASK),
        (f"/machine.slice/machine-libpod_pod_{POD}.slice/libpod-{ID}.scope", "podman", ID, POD),
        (f"/my-libpod_pod_{POD}.slice/libpod-{ID}.scope", "podman", ID, POD),
        (f"/libpod_parent/{POD}/libpod-{ID}", "podman", ID, POD),
    ],
)
def test_containers_with_ids_in_what_groups_them(
    path: str, runtime: str, container_id: str, pod_uid: str, place: str
) -> None:
    for subpath in ("", "container", "a/b.service"):
        assert recognize(f"{place}{path}/{subpath}") == (
            Identity(kind="container", runtime=runtime, container_id=container_id, pod_uid=pod_uid, subpath=subpath),
            ContainerKey(container_id),
        )
    assert identify(path.rpartition("/")[0]).kind == "pod"


def test_a_users_pod() -> None:
    above = "/user.slice/user-1000.slice/user@1000.service/user.slice"
    for path in (f"{above}/user-libpod_pod_{POD}.slice/libpod-{ID}.scope", f"{above}/libpod_parent/{POD}/libpod-{ID}"):
        assert recognize(path) == (
            Identity(kind="container", runtime="podman", container_id=ID, pod_uid=POD),
            ContainerKey(ID, 1000),
        )


def test_the_pod_is_the_one_that_the_node_was_given() -> None:
    pod = "/kubepods/burstable/poddde1244b-5bb5-4297-b544-85f3bc0d80bf"
    for inner in (f"/ecs/{TASK}/{ID}", f"/nomad/{ALLOCATION}.web", f"/libpod_parent/{POD}/libpod-{ID}"):
        identity = identify(f"{pod}/{ID}{inner}")
        assert (identity.pod_uid, identity.qos_class) == ("dde1244b-5bb5-4297-b544-85f3bc0d80bf", "burstable")
    assert identify(f"/nomad/{ALLOCATION}.web/ecs/{TASK}/{ID}").pod_uid == ALLOCATION


def test_containers_in_named_containers() -> None:
    identity, key = recognize(f"/lxc.payload.web/docker/{ID}/x")
    assert (identity.runtime, identity.container_id, identity.container_name) == ("docker", ID, None)
    assert key == ContainerKey(ID)
    inner = identify("/lxc.payload.web/lxc.payload.web/init.scope")
    assert (inner.container_id, inner.container_name) == ("/lxc.payload.web/lxc.payload.web", "web")
    assert identify("/lxc.payload.web").container_id == "/lxc.payload.web"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/lxc.payload", "other"), ("/lxc.payload.", "other"), ("/lxc.monitor.", "other"), ("/lxc", "other"),
        ("/lxc.pivot", "other"), ("/xlxc.payload.web", "other"), ("/lxc.service", "unit"),
        ("/machine.slice", "unit"), ("/machine.slice/machine-.scope", "unit"), ("/machine-web.scope", "unit"),
        ("/machine.slice/machine-web.service", "unit"), ("/machine.slice/web.scope", "unit"),
        ("/machine.slice/systemd-nspawn@.service", "unit"), ("/system.slice/systemd-machined.service", "unit"),
        ("/machine/.libvirt-qemu", "other"), ("/machine", "other"), ("/machine/openstack.partition", "other"),
        ("/nomad.slice", "unit"), ("/nomad.slice/share.slice", "unit"), ("/nomad/share", "other"),
        (f"/nomad.slice/share.slice/{ALLOCATION}..scope", "unit"), (f"/nomad/{ALLOCATION}", "other"),
        (f"/nomad/{ALLOCATION}.", "other"), (f"/other/{ALLOCATION}.web", "other"),
        (f"/nomad.slice/share.slice/{ALLOCATION[1:]}.web.scope", "unit"), (f"/{ALLOCATION}.web.scope", "unit"),
        ("/ecs", "other"), (f"/ecs/{TASK[1:]}", "other"), (f"/{TASK}", "other"), (f"/{TASK}-", "other"),
        ("/ecstasks.slice", "unit"), (f"/ecstasks-{TASK}0.slice", "unit"),
    ],
)  # fmt: skip
def test_what_is_none_of_them(path: str, kind: str) -> None:
    assert recognize(path) == (msgspec.structs.replace(Identity(kind="other"), kind=kind), None)


def test_an_id_is_never_taken_for_a_name() -> None:
    # Docker can be told to use any parent.
    assert recognize(f"/lxc/{ID}") == (Identity(kind="container", container_id=ID), ContainerKey(ID))
    # And a name may look like somebody else's id.
    assert recognize(f"/lxc.payload.{ID}") == (
        Identity(kind="container", runtime="lxc", container_id=f"/lxc.payload.{ID}", container_name=ID),
        None,
    )


@pytest.mark.parametrize(
    ("found", "tells", "name"),
    [
        ("web", "name", "web"), ("a\\x2db", "name", "a\\x2db"), ("\x1b[2J\u202e", "name", "\\x1b[2J\\u202e"),
        ("a\\x2db-c%25\\x", "unit", "a-b-c%25\\x"), ("\\xc3\\xbc\\xff\\x1b\\x00", "unit", "ü\\xff\\x1b\\x00"),
        ("\\x5cx2d", "unit", "\\x2d"), ("%", "unit", "%"), ("\udcff", "unit", "\\xed\\xb3\\xbf"),
        ("12\\x2dweb\\x2d1", "domain", "web-1"), ("web", "domain", "web"), ("7", "domain", "7"), ("7-", "domain", "7-"),
        (f"{ALLOCATION}.web.v2", "allocation", "web.v2"), (ID, "id", None), ("x" * 10_000, "name", "x" * 512),
        ("\\x1b" * 10_000, "unit", ("\\x1b" * 128)),
    ],
)  # fmt: skip
def test_names_in_paths(found: str, tells: Any, name: str | None) -> None:
    assert name_in(found, tells) == name


@given(raw=st.binary(min_size=1, max_size=300).filter(lambda raw: b"/" not in raw and b"\n" not in raw))
def test_systemds_escapes_of_any_bytes_are_the_name_itself(raw: bytes) -> None:
    escaped = "".join(f"\\x{byte:02x}" for byte in raw)
    identity = identify(f"/machine.slice/machine-x{escaped}.scope/payload")
    # As any other name that is made harmless.
    assert identity.container_name == "x" + printable_path(raw.decode("utf-8", "surrogateescape"))[:511]
