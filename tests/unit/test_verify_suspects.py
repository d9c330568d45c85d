# SPDX-License-Identifier: Apache-2.0
"""`tracer verify`: who is meant by a name, and who must not be paused."""

import json
import os
from pathlib import Path

import pytest

from tracer.containers.identity import recognize
from tracer.containers.runtime_state import RuntimeState
from tracer.containers.version1 import Hidden
from tracer.errors import UsageError
from tracer.experiment.naming import Node
from tracer.experiment.protection import cannot_be_told, protected, require_allowed

IDS = [f"{number:x}" * 64 for number in range(1, 10)]
UIDS = [f"{number}f0d4b7e-6f3c-4c86-9d53-0e5d3a6f1c11" for number in range(1, 10)]
STATIC_UID = "0123456789abcdef" * 2


class FakeNode:
    """A cgroup tree, and the state of a containerd with names."""

    def __init__(self, directory: Path) -> None:
        self._tree, self._state = directory / "cgroup", directory / "node"
        self.cgroup("")

    def cgroup(self, path: str, *pids: int) -> None:
        directory = self._tree / path
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))

    def container(self, number: int, *pids: int, pod: int, qos: str = "burstable", **names: str) -> str:
        """A container of a pod; returns its path."""
        level = "" if qos == "guaranteed" else f"{qos}/"
        path = f"kubepods/{level}pod{UIDS[pod]}/{IDS[number]}"
        self.cgroup(path, *pids)
        if names:
            bundle = self._state / "run/containerd/io.containerd.runtime.v2.task/k8s.io" / IDS[number]
            bundle.mkdir(parents=True)
            names = {"container_type": "container", "sandbox_uid": UIDS[pod], **names}
            cri = {f"io.kubernetes.cri.{key.replace('_', '-')}": value for key, value in names.items()}
            (bundle / "config.json").write_text(json.dumps({"annotations": cri}))
        return f"/{path}"

    def as_it_is(self) -> Node:
        return Node(self._tree, RuntimeState(self._state))


@pytest.fixture
def fake(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path)


def shop(fake: FakeNode, number: int, pod: int, container: str, namespace: str = "shop") -> str:
    return fake.container(
        number, pod=pod, container_name=container, sandbox_name=f"web-{pod}", sandbox_namespace=namespace
    )


def why_not(node: Node, suspect: str, victim: str = "/victim", *, forced: bool = False) -> str | None:
    try:
        require_allowed(node, node.find(victim), node.find(suspect), forced=forced)
    except UsageError as error:
        return str(error)
    return None


def test_a_container_has_many_names(fake: FakeNode) -> None:
    path = shop(fake, 1, 1, "app")
    fake.cgroup(f"{path[1:]}/inner")
    node = fake.as_it_is()
    for name in ("app", "web-1", "web-1/app", "shop/web-1/app", IDS[1], IDS[1][:6], IDS[1][:12], path):
        assert node.find(name).cgroup.path == path
    assert node.find("app").name == "shop/web-1/app"
    assert node.find("app").directory.is_dir()
    assert [cgroup.path for cgroup in node.at_or_below(node.find("app"))] == [path, f"{path}/inner"]


def test_a_path_is_that_cgroup_whatever_it_holds(fake: FakeNode) -> None:
    path = shop(fake, 1, 1, "app")
    pod = path.rpartition("/")[0]
    fake.cgroup("batch.slice/job.service")
    node = fake.as_it_is()
    assert node.find(pod).cgroup.identity.kind == "pod"
    assert node.find("job.service").cgroup.path == "/batch.slice/job.service"
    assert node.find("/batch.slice").cgroup.path == "/batch.slice"


def test_a_name_of_several_or_of_nobody_is_refused_in_a_line(fake: FakeNode) -> None:
    paths = [shop(fake, 1, 1, "app"), shop(fake, 2, 2, "app"), shop(fake, 3, 1, "side")]
    node = fake.as_it_is()
    for name, found in (("app", paths[:2]), ("web-1", [paths[0], paths[2]])):
        with pytest.raises(UsageError) as refusal:
            node.find(name)
        assert all(path in str(refusal.value) for path in found)
        assert "\n" not in str(refusal.value)
    for name in ("web", "", "/", "ap", IDS[1][:3], "nobody\n\x1b[31m"):
        if name == "/":
            assert node.find(name).cgroup.path == "/"
            continue
        with pytest.raises(UsageError, match="no container is called") as refusal:
            node.find(name)
        assert str(refusal.value).isprintable()


def test_a_container_without_a_cgroup_of_version_2_is_told(fake: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    identity, key = recognize(f"/docker/{IDS[7]}")
    assert key is not None
    monkeypatch.setattr("tracer.experiment.naming.find_hidden", lambda: [Hidden(key, identity, "/system.slice")])
    with pytest.raises(UsageError, match="has no cgroup of version 2"):
        fake.as_it_is().find(IDS[7][:12])
    with pytest.raises(UsageError, match="no container is called"):
        fake.as_it_is().find("nobody")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("init.scope", "the system's own"),
        ("system.slice", "the system's own"),
        ("user.slice", "the system's own"),
        ("system.slice/sshd.service", "system.slice"),
        ("user.slice/user-0.slice/session-1.scope", "user.slice"),
        ("kubepods", "all pods of a class"),
        ("kubepods/burstable", "all pods of a class"),
        ("kubepods.slice/kubepods-besteffort.slice", "all pods of a class"),
        ("kubelet.slice", "runs the node's containers"),
        ("runtime.slice/containerd.service", "runs the node's containers"),
        ("podruntime.slice", "podruntime.slice/kubelet.service runs the node's containers"),
        (f"machine.slice/crio-conmon-{IDS[5]}.scope", "watches over a container"),
        (f"kubepods/burstable/pod{UIDS[8]}/{IDS[8]}", "a namespace that is not known"),
        (f"kubepods/burstable/pod{STATIC_UID}/{IDS[8]}", "static pod"),
    ],
)
def test_what_the_node_needs_is_not_paused_unless_forced(fake: FakeNode, path: str, why: str) -> None:
    fake.cgroup("victim")
    fake.cgroup("podruntime.slice/kubelet.service")
    fake.cgroup(path)
    node = fake.as_it_is()
    refusal = why_not(node, f"/{path}")
    assert refusal is not None
    assert why in refusal
    assert "--force" in refusal
    assert why_not(node, f"/{path}", forced=True) is None


@pytest.mark.parametrize(
    "path",
    [
        f"system.slice/docker-{IDS[1]}.scope",
        f"user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{IDS[1]}.scope",
        f"docker/{IDS[1]}",
        f"docker/{IDS[1]}/system.slice/sshd.service",
        "batch.slice/job.service",
        "batch",
        f"ecstasks.slice/ecstasks-{STATIC_UID}.slice/docker-{IDS[1]}.scope",
        f"machine.slice/machine-libpod_pod_{IDS[2]}.slice/libpod-{IDS[1]}.scope",
        "nomad.slice/share.slice/4744f0ea-7616-ab3a-a420-8e25056e3861.web.scope",
        "lxc.payload.web",
    ],
)
def test_what_belongs_to_users_can_be_paused(fake: FakeNode, path: str) -> None:
    fake.cgroup("victim")
    fake.cgroup(path)
    assert why_not(fake.as_it_is(), f"/{path}") is None


def test_pods_of_kube_system_are_told_by_their_namespace(fake: FakeNode) -> None:
    fake.cgroup("victim")
    proxy, web = shop(fake, 1, 1, "proxy", "kube-system"), shop(fake, 2, 2, "web")
    node = fake.as_it_is()
    assert why_not(node, web) is None
    refusal = why_not(node, proxy)
    assert refusal is not None
    assert "kube-system" in refusal
    # The pod's own cgroup, too, and nobody names a pod when meaning its container.
    assert "kube-system" in (why_not(node, proxy.rpartition("/")[0]) or "")


def test_critical_pods_are_told_by_what_the_kubelet_gives_their_processes(
    fake: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracer.experiment.protection._PROC", tmp_path / "proc")
    for pid, score in ((71, -997), (72, 900), (73, -997)):
        (tmp_path / f"proc/{pid}").mkdir(parents=True)
        (tmp_path / f"proc/{pid}/oom_score_adj").write_text(f"{score}\n")
    fake.cgroup("victim")
    names = {"sandbox_name": "pod", "sandbox_namespace": "net"}
    critical = fake.container(1, 72, 71, 99, pod=1, container_name="cni", **names)
    usual = fake.container(2, 72, pod=2, container_name="job", **names)
    guaranteed = fake.container(3, 73, pod=3, qos="guaranteed", container_name="db", **names)
    node = fake.as_it_is()
    assert "critical priority (oom_score_adj -997)" in (why_not(node, critical) or "")
    assert why_not(node, usual) is None
    assert why_not(node, guaranteed) is None
    assert cannot_be_told(node.find(usual)) is None
    assert "guaranteed" in (cannot_be_told(node.find(guaranteed)) or "")


def test_nobody_can_insist_on_what_would_stop_the_tracer_or_the_victim(fake: FakeNode) -> None:
    fake.cgroup("above/victim/inside")
    fake.cgroup("above/tracer/deep", os.getpid())
    fake.cgroup("other")
    node = fake.as_it_is()
    for suspect, why in (
        ("/", "the root"),
        ("/above/victim", "it is the victim"),
        ("/above", "the victim is in it"),
        ("/above/victim/inside", "a part of the victim"),
        ("/above/tracer", "this tracer is in it"),
        ("/above/tracer/deep", "this tracer is in it"),
    ):
        refusal = why_not(node, suspect, "/above/victim", forced=True)
        assert refusal is not None
        assert why in refusal
    assert why_not(node, "/other", "/above/victim") is None


def test_a_name_that_only_begins_alike_is_not_inside(fake: FakeNode) -> None:
    fake.cgroup("batch")
    fake.cgroup("batch-2")
    node = fake.as_it_is()
    assert why_not(node, "/batch", "/batch-2") is None
    assert all(protected(node, cgroup) is None for cgroup in node.census)
