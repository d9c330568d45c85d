# SPDX-License-Identifier: Apache-2.0
"""Who a cgroup path is: the collected rows, the rules beyond them, and compositions of both."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.containers.identity import Identity, identify, printable_path

ROWS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "cgroup_paths.json").read_text(encoding="utf-8")
)
ID = "0123456789abcdef" * 4
OTHER_ID = "fedcba9876543210" * 4
UID = "dde1244b-5bb5-4297-b544-85f3bc0d80bf"
UID_IN_SLICE = UID.replace("-", "_")
POD_SLICE = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_IN_SLICE}.slice"


def expected_of(row: dict[str, Any]) -> Identity:
    return Identity(
        kind=row["kind"],
        runtime=row["runtime"],
        container_id=row["container_id"],
        pod_uid=row["pod_uid"],
        qos_class=row["qos"],
        subpath=row["subpath"],
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["where"])
def test_collected_paths(row: dict[str, Any]) -> None:
    assert identify(row["path"]) == expected_of(row)


@pytest.mark.parametrize(
    ("component", "runtime"),
    [
        (f"cri-containerd-{ID}.scope", "containerd"),
        (f"nerdctl-{ID}.scope", "containerd"),
        (f"crio-{ID}.scope", "cri-o"),
        (f"crio-{ID}", "cri-o"),
        (f"docker-{ID}.scope", "docker"),
        (f"libpod-{ID}.scope", "podman"),
        (f"libpod-{ID}", "podman"),
        (f"system.slice:docker:{ID}", "docker"),
        (f"machine.slice:crio:{ID}", "cri-o"),
        (ID, "docker"),
    ],
)
def test_each_way_to_name_a_container(component: str, runtime: str) -> None:
    expected = Identity(kind="container", runtime=runtime, container_id=ID)
    assert identify(f"/{component}") == expected
    assert identify(f"/a/{component}") == expected
    assert identify(f"/a/{component}/b/c.service") == msgspec.structs.replace(expected, subpath="b/c.service")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/system.slice/cups.socket", "unit"),
        ("/system.slice/dev-disk-by\\x2duuid.swap", "unit"),
        ("/system.slice", "unit"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox-42.scope", "unit"),
        ("/system.slice/systemd-udevd.service/udev", "other"),
        ("/system.slice/boot-efi.mount", "mount"),
        (f"/system.slice/var-lib-docker-overlay2-{ID}-merged.mount", "mount"),
        (f"/system.slice/run-docker-{ID}.mount", "mount"),
        (f"/system.slice/{ID}.mount", "mount"),
        (f"/docker-{ID[1:]}.scope", "unit"),
        (f"/docker-{ID}0.scope", "unit"),
        (f"/docker-{ID.upper()}.scope", "unit"),
        (f"/docker-{ID}.scope\n", "other"),
        (f"/{ID[1:]}", "other"),
        (f"/{ID}0", "other"),
        (f"/podman-{ID}", "other"),
        ("/kubepods.slice", "qos"),
        ("/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice", "qos"),
        ("/kubepods", "qos"),
        ("/kubelet/kubepods/besteffort", "qos"),
        ("/besteffort", "other"),
        (f"/pod{UID}", "other"),
        ("/kubepods/burstable/podnot-a-uid", "other"),
        ("", "other"),
        ("/sys/fs/cgroup", "other"),
        ("/sys/fs/cgroup/unified/", "other"),
        ("/sys/fs/cgroupkubepods", "other"),
    ],
)
def test_kind_of_what_is_in_no_container_or_pod(path: str, kind: str) -> None:
    assert identify(path) == msgspec.structs.replace(Identity(kind="other"), kind=kind)


def test_pod_levels_and_their_quality_of_service() -> None:
    static_pod_uid = "7260904bbd08e72e4dff95d9fccd2ee8"
    for path, uid, qos_class in [
        (f"/kubepods.slice/kubepods-pod{UID_IN_SLICE}.slice", UID, "guaranteed"),
        (POD_SLICE, UID, "burstable"),
        (f"/kubepods/pod{UID}", UID, "guaranteed"),
        (f"/kubelet/kubepods/besteffort/pod{static_pod_uid}", static_pod_uid, "besteffort"),
    ]:
        assert identify(path) == Identity(kind="pod", pod_uid=uid, qos_class=qos_class)


def test_sandbox_of_cri_o() -> None:
    expected = Identity(kind="sandbox", runtime="cri-o", container_id=ID, pod_uid=UID, qos_class="burstable")
    assert identify(f"{POD_SLICE}/crio-{ID}") == expected
    assert identify(f"{POD_SLICE}/crio-{ID}/a") == msgspec.structs.replace(expected, subpath="a")


def test_monitor_belongs_to_its_pod_but_to_no_container() -> None:
    assert identify(f"{POD_SLICE}/crio-conmon-{ID}.scope") == Identity(
        kind="monitor", runtime="cri-o", pod_uid=UID, qos_class="burstable"
    )


def test_other_cgroup_of_a_pod_keeps_the_pod() -> None:
    assert identify(f"{POD_SLICE}/kata_overhead") == Identity(kind="other", pod_uid=UID, qos_class="burstable")


def test_container_within_a_container_of_a_pod() -> None:
    assert identify(f"/kubepods/burstable/pod{UID}/{ID}/{OTHER_ID}/x") == Identity(
        kind="container",
        runtime="unknown-cri",
        container_id=OTHER_ID,
        pod_uid=UID,
        qos_class="burstable",
        subpath="x",
    )


def test_pod_of_a_node_that_is_a_container() -> None:
    node = f"/system.slice/docker-{ID}.scope"
    assert identify(f"{node}{POD_SLICE}") == Identity(kind="pod", pod_uid=UID, qos_class="burstable")
    assert identify(f"{node}{POD_SLICE}/a").container_id == ID


@pytest.mark.parametrize(
    "prefix",
    [
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/unified",
        "/sys/fs/cgroup/systemd",
        "/sys/fs/cgroup/memory",
        "/sys/fs/cgroup/net_cls,net_prio",
        "/sys/fs/cgroup/cpu,cpuacct",
    ],
)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["where"])
def test_mount_prefix_changes_nothing(prefix: str, row: dict[str, Any]) -> None:
    assert identify(prefix + row["path"].removeprefix("/sys/fs/cgroup/cpu,cpuacct")) == expected_of(row)


components = st.one_of(
    st.sampled_from(["..", ".", "a\nb", "\x1b[31m", "x" * 255, "\udcff\udcfe", "pod", "docker-.scope", "::"]),
    st.text(max_size=300).filter(lambda text: "/" not in text),
)
plain_parents = st.one_of(
    components,
    st.sampled_from(["system.slice", "user.slice", "init.scope", "docker", "lxc", "a.service", "b.mount"]),
)
container_parents = st.sampled_from(
    [f"docker-{OTHER_ID}.scope", OTHER_ID, f"crio-{OTHER_ID}", f"x.slice:docker:{OTHER_ID}"]
)
pod_parents = st.sampled_from(["kubepods/podffffffffffffffffffffffffffffffff", POD_SLICE.strip("/")])


@given(data=st.data())
def test_any_parents_and_a_known_leaf_give_the_leafs_answer(data: st.DataObject) -> None:
    row = data.draw(st.sampled_from([row for row in ROWS if row["path"] != "/"]))
    parents = plain_parents
    if row["kind"] not in ("unit", "other"):  # those belong to a container above them
        parents |= container_parents
    if row["pod_uid"] is not None:  # all else in a pod belongs to that pod
        parents |= pod_parents
    above = data.draw(st.lists(parents, max_size=6))
    assert identify("/".join(["", *above]) + row["path"]) == expected_of(row)


@given(below=st.lists(plain_parents, min_size=1, max_size=6))
def test_whatever_is_below_a_container_belongs_to_it(below: list[str]) -> None:
    identity = identify(f"{POD_SLICE}/crio-{ID}.scope/" + "/".join(below))
    subpath = "/".join(component for component in below if component)
    assert identity == Identity(
        kind="container",
        runtime="cri-o",
        container_id=ID,
        pod_uid=UID,
        qos_class="burstable",
        subpath=subpath,
    )


hostile_text = st.text(st.characters(), max_size=2000) | st.lists(
    components | container_parents | pod_parents, max_size=40
).map("/".join)


@given(hostile_text)
def test_hostile_text_is_told_apart_from_nothing_but_never_fails(text: str) -> None:
    identity = identify(text)
    if identity.container_id is not None:
        assert identity.container_id in text
    assert (identity.kind in ("container", "sandbox")) == (identity.container_id is not None)
    assert (identity.pod_uid is None) == (identity.qos_class is None)


@given(st.binary(max_size=300))
def test_printable_path_of_any_bytes_is_valid_and_printable(raw: bytes) -> None:
    text = printable_path(raw.decode("utf-8", errors="surrogateescape"))
    assert text.isprintable()
    assert text.encode("utf-8").decode("utf-8") == text


def test_printable_path_leaves_ordinary_names_alone_and_escapes_the_rest() -> None:
    assert printable_path("/a b/ü/dev-\\x2duuid.swap") == "/a b/ü/dev-\\x2duuid.swap"
    assert printable_path("/\x1b[2J\n\udcff\u202e") == "/\\x1b[2J\\n\\xff\\u202e"
