# SPDX-License-Identifier: Apache-2.0
"""Names asked from state on disk: how often, until when, and once more after a container was renamed."""

import json
import os
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tracer.cgroup_event import CgroupEvent, EventKind
from tracer.containers.identity import ContainerKey
from tracer.containers.inventory import Inventory
from tracer.containers.runtime_state import Found, RuntimeState
from tracer.pipeline.asking import Asking

DATA = Path(__file__).parent / "data" / "runtime_state"
ID = "08918d25048703d2ea28f7e075e08461cb21408caf468f7cc13ebad987e5fed7"
OTHER_ID = "fedcba9876543210" * 4
CGROUP = 77


class Node:
    """A file tree with state in it, an inventory that hears of cgroups, and seconds that pass as told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 100.0
        (root / "cgroups").mkdir()
        self.inventory = Inventory(root / "cgroups", lambda: self.now, expect_names=True)
        self.state = CountingState(root)
        self.asking = Asking(self.inventory, self.state, lambda: self.now)

    def see(self, kind: EventKind, path: str, cgroup_id: int = CGROUP) -> None:
        time_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        self.inventory.see(CgroupEvent(time_ns, kind, cgroup_id, path), "kernel")
        self.ask()

    def ask(self) -> None:
        for move in self.inventory.take_moves():
            self.asking.take(move)
        self.asking.ask()

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.1)):
            self.now += 0.1
            self.ask()

    def write(self, place: str, content: object) -> Path:
        """As the runtimes do: a new file in place of the old one."""
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        new = self.root / "new file"
        new.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return new.rename(path)

    def name(self, cgroup_id: int = CGROUP) -> str | None:
        rows = self.inventory.labels([cgroup_id]).to_dicts()
        assert len(rows) == 1
        name: str | None = rows[0]["container_name"]
        return name

    def named(self) -> list[int]:
        return [change.time_ns for change in self.inventory.take_changes() if change.event == "named"]


class CountingState(RuntimeState):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[str] = []

    def find(self, key: ContainerKey, runtime: str | None) -> Found | None:
        self.asked.append(key.container_id)
        return super().find(key, runtime)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def docker(name: str) -> dict[str, Any]:
    container: dict[str, Any] = json.loads((DATA / "docker_config.v2.json").read_bytes())
    return container | {"Name": f"/{name}"}


def podman(*containers: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"id": id_, "names": [name], "metadata": '{"image-name": "i"}'} for id_, name in containers]


PODMAN_STORE = "var/lib/containers/storage/overlay-containers"
TASKS = "run/containerd/io.containerd.runtime.v2.task/default"
NERDCTL = "var/lib/nerdctl/1935db59/names/default"
DOCKER_PLACE = f"var/lib/docker/containers/{ID}/config.v2.json"


def start_docker(node: Node) -> None:
    node.write(DOCKER_PLACE, docker("old"))


def rename_docker(node: Node, name: str) -> None:
    node.write(DOCKER_PLACE, docker(name))


def start_podman(node: Node) -> None:
    node.write(f"{PODMAN_STORE}/{ID}/userdata/config.json", (DATA / "podman_config.json").read_bytes())
    node.write(f"{PODMAN_STORE}/containers.json", podman((OTHER_ID, "another"), (ID, "old")))


def rename_podman(node: Node, name: str) -> None:
    node.write(f"{PODMAN_STORE}/containers.json", podman((OTHER_ID, "another"), (ID, name)))


def start_nerdctl(node: Node) -> None:
    node.write(f"{TASKS}/{ID}/config.json", {"annotations": {"nerdctl/name": "old"}})
    node.write(f"{NERDCTL}/another", OTHER_ID.encode())
    node.write(f"{NERDCTL}/old", ID.encode())


def rename_nerdctl(node: Node, name: str) -> None:
    (former,) = (path for path in (node.root / NERDCTL).iterdir() if path.read_text() == ID)
    node.write(f"{NERDCTL}/{name}", ID.encode())
    former.unlink()


RUNTIMES = [
    (start_docker, rename_docker, f"/docker/{ID}"),
    (start_docker, rename_docker, f"/system.slice/docker-{ID}.scope"),
    (start_podman, rename_podman, f"/machine.slice/libpod-{ID}.scope"),
    (start_podman, rename_podman, f"/system.slice/web.service/libpod-payload-{ID}"),
    (start_podman, rename_podman, f"/unknown/{ID}"),
    (start_nerdctl, rename_nerdctl, f"/system.slice/nerdctl-{ID}.scope"),
    (start_nerdctl, rename_nerdctl, f"/default/{ID}"),
]
STARTS = [(start, path) for start, _rename, path in RUNTIMES]


@pytest.mark.parametrize(("start", "rename", "path"), RUNTIMES)
def test_a_renamed_container_has_both_names_each_at_its_time(node: Node, start: Any, rename: Any, path: str) -> None:
    start(node)
    node.see("created", path)
    assert node.name() == "old"
    node.wait(3)
    assert len(node.named()) == 1
    for name, former in (("new", "old"), ("newer", "new")):
        before_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        rename(node, name)
        after_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        node.wait(1)
        assert node.name() == name
        (since_ns,) = node.named()
        # Times of files are those of the kernel's last tick.
        assert before_ns - 20_000_000 <= since_ns <= after_ns
        last = node.inventory.earlier_labels([CGROUP]).to_dicts()[-1]
        assert (last["container_name"], last["until_ns"]) == (former, since_ns)
    node.wait(5)
    assert node.named() == []
    assert node.state.asked == [ID]


@pytest.mark.parametrize(("start", "rename", "path"), RUNTIMES)
def test_one_that_is_renamed_while_it_is_stopped_starts_with_its_new_name(
    node: Node, start: Any, rename: Any, path: str
) -> None:
    start(node)
    node.see("created", path)
    node.see("removed", path)
    rename(node, "new")
    node.wait(3)
    node.see("created", path, CGROUP + 1)
    assert (node.name(), node.name(CGROUP + 1)) == ("new", "new")
    created_ns = node.inventory.take_changes()[-1].time_ns
    (earlier,) = node.inventory.earlier_labels([CGROUP]).to_dicts()
    assert (earlier["container_name"], earlier["until_ns"]) == ("old", created_ns)


@pytest.mark.parametrize(("start", "path"), STARTS)
def test_what_is_spoilt_or_gone_renames_nobody(node: Node, start: Any, path: str) -> None:
    start(node)
    node.see("created", path)
    node.wait(2)
    for file in [path for path in node.root.rglob("*") if path.is_file()]:
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        node.wait(2)
        file.unlink()
        node.wait(2)
    assert node.name() == "old"
    assert len(node.named()) == 1


def test_a_name_that_podman_writes_late(node: Node) -> None:
    node.write(f"{PODMAN_STORE}/{ID}/userdata/config.json", (DATA / "podman_config.json").read_bytes())
    node.see("created", f"/machine.slice/libpod-{ID}.scope")
    node.wait(2)
    assert node.name() is None
    node.write(f"{PODMAN_STORE}/containers.json", podman((ID, "late")))
    node.wait(1)
    assert node.name() == "late"
    assert node.inventory.earlier_labels([CGROUP]).is_empty()


def test_nobody_is_asked_for_ever(node: Node) -> None:
    """A container within a container: its names are where nobody looks."""
    node.see("created", f"/docker/{OTHER_ID}/docker/{ID}")
    node.wait(60)
    tries = len(node.state.asked)
    assert 8 <= tries <= 16
    for path in (node.root / PODMAN_STORE, (node.root / DOCKER_PLACE).parents[1], node.root / TASKS):
        path.mkdir(parents=True)
        (path / OTHER_ID).mkdir()
    node.wait(600)
    assert len(node.state.asked) == tries
    assert node.name() is None
    assert not node.asking._due


@pytest.mark.parametrize(("start", "path"), STARTS)
def test_one_that_was_given_up_is_asked_for_once_it_shows_up(node: Node, start: Any, path: str) -> None:
    node.see("created", path)
    node.wait(120)
    assert node.name() is None
    node.state.asked.clear()
    start(node)
    node.wait(1.2)
    assert node.name() == "old"
    assert node.state.asked == [ID]


def test_one_that_shows_up_half_is_asked_for_again_and_given_up_again(node: Node) -> None:
    node.see("created", f"/docker/{ID}")
    node.wait(120)
    tries = len(node.state.asked)
    node.write(DOCKER_PLACE, b'{"Na')
    node.wait(600)
    assert tries < len(node.state.asked) <= 2 * tries


def test_one_that_is_gone_is_asked_for_no_more(node: Node) -> None:
    node.see("created", f"/docker/{ID}")
    node.see("removed", f"/docker/{ID}")
    node.wait(1)
    assert len(node.state.asked) == 1
    start_docker(node)
    node.see("created", f"/docker/{ID}", CGROUP + 1)
    node.wait(2)
    node.see("removed", f"/docker/{ID}", CGROUP + 1)
    rename_docker(node, "new")
    node.wait(3)
    assert node.name(CGROUP + 1) == "old"
    assert not node.asking._kept
    assert not node.asking._questions


def test_a_thousand_containers_are_looked_at_by_what_has_changed(node: Node) -> None:
    ids = [f"{number:064x}" for number in range(1000)]
    for number, id_ in enumerate(ids):
        node.write(f"var/lib/docker/containers/{id_}/config.v2.json", docker(f"c{number}"))
        node.see("created", f"/docker/{id_}", 100 + number)
    node.wait(3)
    node.inventory.take_changes()
    node.write(f"var/lib/docker/containers/{ids[500]}/config.v2.json", docker("new"))
    reads: list[str] = []
    files = next(iter(node.state.readers(None))).files
    read = files.read

    def counted(path: str, most_bytes: int = 1 << 22) -> bytes | None:
        reads.append(path)
        return read(path, most_bytes)

    files.read = counted  # type: ignore[method-assign]
    node.wait(5)
    assert node.name(600) == "new"
    assert len(node.named()) == 1
    assert len(reads) == 1
    assert len(node.state.asked) == 1000


def test_a_clock_that_is_set_puts_no_rename_out_of_the_second_in_which_it_was_seen(node: Node) -> None:
    start_docker(node)
    node.see("created", f"/docker/{ID}")
    node.wait(2)
    node.inventory.take_changes()
    for name, modified in (("future", 4e9), ("past", 1.0)):
        looked_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        node.wait(1)
        os.utime(node.write(DOCKER_PLACE, docker(name)), (modified, modified))
        node.wait(1)
        (since_ns,) = node.named()
        assert looked_ns <= since_ns <= time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert node.inventory.earlier_labels([CGROUP]).select(pl.col("container_name")).rows() == [("old",), ("future",)]
