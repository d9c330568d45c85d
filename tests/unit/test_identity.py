# SPDX-License-Identifier: Apache-2.0
"""Who a cgroup path is: the collected rows, each runtime in each form, the rules beyond them, and compositions."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.containers.forms import match_form
from tracer.containers.identity import ContainerKey, Identity, identify, path_components, printable_path, recognize

ROWS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "cgroup_paths.json").read_text(encoding="utf-8")
)
ID = "0123456789abcdef" * 4
OTHER_ID = "fedcba9876543210" * 4
STEP = "n0xk3v5b8z1q7w9e2r4t6y8u0"
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


# Each with the three ways in which systemd's and the runtimes' own driver write it.
PREFIXES = [
    ("cri-containerd", "containerd"),
    ("nerdctl", "containerd"),
    ("crio", "cri-o"),
    ("docker", "docker"),
    ("libpod", "podman"),
]
FORMS = [
    *((form.format(prefix, ID), runtime)
      for prefix, runtime in PREFIXES
      for form in ("{}-{}.scope", "{}-{}", "system.slice:{}:{}", ":{}:{}")),
    (f"libpod-payload-{ID}", "podman"),
    (f"docker/{ID}", "docker"),
    (f"docker/kata_{ID}", "docker"),
    (f"k8s.io/{ID}", "containerd"),
    # Without any of these only the runtime's own state tells whose it is.
    (ID, None),
    (f"default/{ID}", None),
    (f"moby/{ID}", None),
    (f"ecs/{STEP}/{ID}", None),
]  # fmt: skip
PARENTS = [
    "", "/system.slice", "/system.slice/web.service", "/machine.slice", "/a/b",
    "/user.slice/user-1000.slice/user@1000.service/user.slice",
    "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service",
    *(PODS_OF_PODMAN := [f"/machine.slice/machine-libpod_pod_{OTHER_ID}.slice", f"/libpod_parent/{OTHER_ID}"]),
]  # fmt: skip


def pod_of(parent: str) -> str | None:
    return OTHER_ID if parent in PODS_OF_PODMAN else None


@pytest.mark.parametrize("parent", PARENTS)
@pytest.mark.parametrize(("component", "runtime"), FORMS)
def test_each_runtime_in_each_form_wherever_it_is(component: str, runtime: str | None, parent: str) -> None:
    # By systemd a sandbox of CRI-O's is a directory in a slice.
    kind = "sandbox" if component == f"crio-{ID}" and parent.endswith(".slice") else "container"
    expected = Identity(kind="container", runtime=runtime, container_id=ID, pod_uid=pod_of(parent))
    expected = msgspec.structs.replace(expected, kind=kind)
    assert identify(f"{parent}/{component}") == expected
    # crun's child, and what a container makes itself.
    assert identify(f"{parent}/{component}/container") == msgspec.structs.replace(expected, subpath="container")
    assert identify(f"{parent}/{component}/b/c.service") == msgspec.structs.replace(expected, subpath="b/c.service")


@pytest.mark.parametrize("pod", [POD_SLICE, f"/kubelet/kubepods/burstable/pod{UID}"], ids=["systemd", "cgroupfs"])
@pytest.mark.parametrize(("component", "runtime"), FORMS)
def test_each_form_within_a_pod_of_either_driver(component: str, runtime: str | None, pod: str) -> None:
    identity = identify(f"{pod}/{component}")
    assert (identity.runtime, identity.container_id) == (runtime, ID)
    assert (identity.pod_uid, identity.qos_class) == (UID, "burstable")


def test_a_path_for_systemd_given_to_cgroupfs_names_the_pod() -> None:
    for prefix, runtime in PREFIXES:
        identity = identify(f"/system.slice/x.service/kubepods-pod{UID_IN_SLICE}.slice:{prefix}:{ID}")
        assert identity == Identity(
            kind="container", runtime=runtime, container_id=ID, pod_uid=UID, qos_class="guaranteed"
        )


@pytest.mark.parametrize(
    ("component", "runtime"),
    [
        *((form, runtime)
          for prefix, runtime in (("libpod-conmon", "podman"), ("crio-conmon", "cri-o"))
          for form in (f"{prefix}-{ID}.scope", f"{prefix}-{ID}", f"x.slice:{prefix}:{ID}")),
        (f"kata_overhead/{ID}", None),
        (f"kata.slice/kata-overhead.slice/runtime-rs-{ID}.scope", None),
    ],
)  # fmt: skip
def test_what_watches_over_a_container_knows_which(component: str, runtime: str | None) -> None:
    for parent in PARENTS:
        identity, key = recognize(f"{parent}/{component}")
        assert identity == Identity(kind="monitor", runtime=runtime, pod_uid=pod_of(parent))
        assert key is not None
        assert key.container_id == ID
    assert identify(f"{POD_SLICE}/{component}") == Identity(
        kind="monitor", runtime=runtime, pod_uid=UID, qos_class="burstable"
    )


def test_what_a_step_of_a_build_runs_in() -> None:
    for path, runtime in [
        (f"/system.slice/docker-{STEP}.scope", "docker"),
        (f"/docker/buildkit/{STEP}", "buildkit"),
        (f"/buildkit/{STEP}", "buildkit"),
    ]:
        assert identify(path) == Identity(kind="container", runtime=runtime, container_id=STEP)
    assert identify(f"/{STEP}").kind == identify(f"/cri-containerd-{STEP}").kind == "other"


def test_a_pod_of_podman_is_no_container() -> None:
    for path in (
        f"/machine.slice/machine-libpod_pod_{ID}.slice",
        f"/user.slice/user-1000.slice/user@1000.service/user.slice/user-libpod_pod_{ID}.slice",
        f"/libpod_parent/{ID}",
    ):
        assert recognize(path) == (Identity(kind="pod", runtime="podman", pod_uid=ID), None)
    assert identify(f"/machine.slice/machine-libpod_pod_{ID[1:]}.slice").kind == "unit"


def test_a_pods_virtual_machine_is_its_sandbox() -> None:
    for component in (f"kata_{ID}", f"kata_sandboxed_pod/{ID}"):
        assert identify(f"/kubepods/besteffort/pod{UID}/{component}") == Identity(
            kind="sandbox", container_id=ID, pod_uid=UID, qos_class="besteffort"
        )
    # runtime-rs with cgroup v2.
    below = identify(f"{POD_SLICE}/cri-containerd-{ID}.scope/overhead")
    assert (below.container_id, below.subpath) == (ID, "overhead")


def test_what_systemd_runs_for_a_user_is_known_by_the_user() -> None:
    manager = "/user.slice/user-1000.slice/user@1000.service"
    for path, user_id in [
        (f"{manager}/user.slice/libpod-{ID}.scope", 1000),
        (f"{manager}/app.slice/web.service/libpod-payload-{ID}", 1000),
        (f"{manager}/user.slice/docker-{OTHER_ID}.scope/docker/{ID}", 1000),
        (f"{manager}/user.slice/libpod-conmon-{ID}.scope", 1000),
        (f"/sys/fs/cgroup/unified{manager}/user.slice/libpod-{ID}.scope", 1000),
        (f"/user.slice/user-1000.slice/user@1001.service/user.slice/libpod-{ID}.scope", None),
        (f"/user.slice/user-1000.slice/session-3.scope/libpod-{ID}", None),
        # A user of a container is none of the node's.
        (f"/docker/{OTHER_ID}{manager}/user.slice/libpod-{ID}.scope", None),
        (f"/a{manager}/user.slice/libpod-{ID}.scope", None),
    ]:
        assert recognize(path)[1] == ContainerKey(ID, user_id)


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
        (f"/docker-{STEP[1:]}.scope", "unit"),
        (f"/libpod-payload-{ID[1:]}", "other"),
        (f"/libpod-payload-{ID}.service", "unit"),
        (f"/libpod-conmon-{ID}0", "other"),
        (f"/xcrio-{ID}", "other"),
        (f"/runtime-rs-{ID}.scope", "unit"),
        (f"/kata_{ID}_", "other"),
        (f"/a:b:docker:{ID}", "other"),
        (f"/docker:{ID}", "other"),
        ("/system.slice/web.service/supervisor", "other"),
        ("/system.slice/web.service/runtime", "other"),
        ("/libpod_parent/conmon", "other"),
        ("/libpod_parent", "other"),
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


def test_other_cgroup_of_a_pod_keeps_the_pod() -> None:
    assert identify(f"{POD_SLICE}/anything") == Identity(kind="other", pod_uid=UID, qos_class="burstable")


DOCKER_IN_CONTAINER = f"/docker/{OTHER_ID}"
INNER = [
    (f"{DOCKER_IN_CONTAINER}", "docker"),
    (f"/system.slice/docker-{OTHER_ID}.scope", "docker"),
    (f"/machine.slice/libpod-{OTHER_ID}.scope/container", "podman"),
    (f"/k8s.io/{OTHER_ID}", "containerd"),
    (f"/{OTHER_ID}", None),
]


@pytest.mark.parametrize("outer", [f"cri-containerd-{ID}.scope", f"crio-{ID}.scope", f"docker-{ID}.scope", ID])
@pytest.mark.parametrize(("inner", "runtime"), INNER)
def test_the_innermost_container_of_the_outermost_pod(outer: str, inner: str, runtime: str | None) -> None:
    identity, key = recognize(f"{POD_SLICE}/{outer}{inner}")
    assert (identity.kind, identity.runtime, identity.container_id) == ("container", runtime, OTHER_ID)
    assert (identity.pod_uid, identity.qos_class) == (UID, "burstable")
    assert key == ContainerKey(OTHER_ID)
    # Without a pod, and once more within.
    assert identify(f"/{outer}{inner}").pod_uid is None
    assert identify(f"{POD_SLICE}/{outer}{inner}/docker/{ID}").container_id == ID


def test_kubernetes_within_a_container_of_a_pod() -> None:
    other_uid = "7260904b-bd08-4e72-b4df-f95d9fccd2ee"
    node = f"{POD_SLICE}/cri-containerd-{ID}.scope"
    inner_pod = f"{node}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{other_uid.replace('-', '_')}.slice"
    expected = Identity(kind="pod", pod_uid=UID, qos_class="burstable")
    assert identify(inner_pod) == expected
    assert identify(f"{node}/kubelet/kubepods") == msgspec.structs.replace(expected, kind="qos")
    assert identify(f"{inner_pod}/cri-containerd-{OTHER_ID}.scope") == Identity(
        kind="container", runtime="containerd", container_id=OTHER_ID, pod_uid=UID, qos_class="burstable"
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


def is_plain(text: str) -> bool:
    """Whether no runtime calls a container so, or what it puts containers into."""
    return "/" not in text and match_form("a.slice", text) is None and match_form(text, "x") is None


components = st.one_of(
    st.sampled_from(["..", ".", "a\nb", "\x1b[31m", "x" * 255, "\udcff\udcfe", "pod", "docker-.scope", "::"]),
    st.text(max_size=300).filter(is_plain),
)
plain_parents = st.one_of(
    components,
    st.sampled_from(["system.slice", "user.slice", "init.scope", "docker", "a.service", "b.mount"]),
)
container_parents = st.sampled_from(
    [
        f"docker-{OTHER_ID}.scope",
        OTHER_ID,
        f"crio-{OTHER_ID}",
        f"x.slice:docker:{OTHER_ID}",
        f"libpod-payload-{OTHER_ID}",
        "lxc.payload.web",
        "machine.slice/machine-web.scope",
    ]
)
pod_parents = st.sampled_from(["kubepods/podffffffffffffffffffffffffffffffff", POD_SLICE.strip("/")])


@given(data=st.data())
def test_any_parents_and_a_known_leaf_give_the_leafs_answer(data: st.DataObject) -> None:
    row = data.draw(st.sampled_from([row for row in ROWS if row["path"] != "/"]))
    parents = plain_parents
    if row["kind"] not in ("unit", "other"):  # those belong to a container above them
        parents |= container_parents
    above = data.draw(st.lists(parents, max_size=6))
    # A version 1 hierarchy's own place is at the beginning or nowhere.
    assert identify("/".join(["", *above, row["path"].removeprefix("/sys/fs/cgroup/cpu,cpuacct")])) == expected_of(row)


@given(data=st.data())
def test_pods_above_are_those_of_all_below(data: st.DataObject) -> None:
    row = data.draw(st.sampled_from([row for row in ROWS if row["kind"] not in ("other", "unit")]))
    pod = data.draw(pod_parents)
    found = identify(f"/{pod}{row['path']}")
    above = identify(f"/{pod}")
    assert found == msgspec.structs.replace(expected_of(row), pod_uid=above.pod_uid, qos_class=above.qos_class)


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


named = st.sampled_from(
    ["lxc.payload.{}", "lxc.monitor.{}", "lxc/{}", "machine-{}.scope", "a.slice/machine-{}.scope",
     "systemd-nspawn@{}.service", "machine-qemu\\x2d{}.scope", "{}.libvirt-lxc", "nomad/" + UID + ".{}",
     "share.slice/" + UID + ".{}.scope", "ecs/{}", "ecstasks-{}.slice"]
)  # fmt: skip
any_named = st.builds(
    str.format, named, components | st.sampled_from([ID, UID, "\\x00", "\\xff", "%s", "1-", "-", "."])
)
hostile_text = st.text(st.characters(), max_size=2000) | st.lists(
    components | container_parents | pod_parents | any_named, max_size=40
).map("/".join)


@given(hostile_text)
def test_hostile_text_is_told_apart_from_nothing_but_never_fails(text: str) -> None:
    identity, key = recognize(text)
    assert key is None or identity.kind in ("container", "sandbox", "monitor")
    assert identity.kind == "monitor" or key is None or key.container_id == identity.container_id
    # An id is looked for in the state of runtimes, a path never is; a name is in the path, or nobody's yet.
    if identity.container_id is not None:
        assert (key is None) == identity.container_id.startswith("/") == (identity.container_name is not None)
        assert identity.container_id in (text if key is not None else "/" + "/".join(path_components(text)))
    assert identity.container_name is None or identity.container_name.isprintable()
    assert len(identity.container_name or "") <= 512
    assert (identity.kind in ("container", "sandbox")) == (identity.container_id is not None)
    assert identity.qos_class is None or identity.pod_uid is not None


@given(st.binary(max_size=300))
def test_printable_path_of_any_bytes_is_valid_and_printable(raw: bytes) -> None:
    text = printable_path(raw.decode("utf-8", errors="surrogateescape"))
    assert text.isprintable()
    assert text.encode("utf-8").decode("utf-8") == text


def test_printable_path_leaves_ordinary_names_alone_and_escapes_the_rest() -> None:
    assert printable_path("/a b/ü/dev-\\x2duuid.swap") == "/a b/ü/dev-\\x2duuid.swap"
    assert printable_path("/\x1b[2J\n\udcff\u202e") == "/\\x1b[2J\\n\\xff\\u202e"
