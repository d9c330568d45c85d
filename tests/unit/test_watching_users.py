# SPDX-License-Identifier: Apache-2.0
"""A user's home that does not answer holds up neither the names of others nor the end of the run."""

import json
import threading
import time
from pathlib import Path

import pytest

from tracer.cgroup_event import CgroupEvent
from tracer.containers.identity import ContainerKey
from tracer.containers.inventory import Inventory
from tracer.containers.runtime_state import ContainerNames, Found, RuntimeState
from tracer.pipeline.watching import Watching

PATIENCE_SECONDS = 20
USERS_ID, NODES_ID = "a" * 64, "b" * 64
USERS_PATH = f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{USERS_ID}.scope"
NODES_PATH = f"/docker/{NODES_ID}"


class Events:
    """In the place of the kernel's events: two cgroups that come, the user's first."""

    lost = 0

    def __init__(self) -> None:
        self._events = [CgroupEvent(1, "created", 7, USERS_PATH), CgroupEvent(2, "created", 8, NODES_PATH)]

    def read(self, seconds: float) -> list[CgroupEvent]:
        events, self._events = self._events[:1], self._events[1:]
        if not events:
            time.sleep(seconds)
        return events


class UsersState(RuntimeState):
    """In the place of a file system on a server: it answers when it is told to, or never."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked = threading.Event()
        self.answers = threading.Event()
        self.breaks = False

    def find(self, key: ContainerKey, runtime: str | None) -> Found | None:
        if key.user_id is None:
            return super().find(key, runtime)
        self.asked.set()
        assert self.answers.wait(PATIENCE_SECONDS)
        if self.breaks:
            raise OSError("Stale file handle")
        return Found(ContainerNames(runtime="podman", container_name="mine"))


class Watch:
    def __init__(self, root: Path) -> None:
        config = root / "var/lib/docker/containers" / NODES_ID / "config.v2.json"
        config.parent.mkdir(parents=True)
        config.write_text(json.dumps({"Name": "/theirs"}))
        (root / "cgroups").mkdir()
        self.inventory = Inventory(root / "cgroups")
        self.state = UsersState(root)
        self.notes: list[str] = []
        self.watching = Watching(
            inventory=self.inventory,
            root=root / "cgroups",
            cgroup_events=Events(),  # type: ignore[arg-type]
            nri_socket=None,
            runtime_state=self.state,
            see_beginning=lambda _cgroup_id: None,
            see_end=lambda _cgroup_id: None,
            note=self.notes.append,
        )
        self.watching.start()

    def wait_for_name(self, cgroup_id: int, name: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.inventory.labels([cgroup_id])["container_name"].to_list() != [name]:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    return Watch(tmp_path)


def test_a_home_that_does_not_answer(watch: Watch) -> None:
    assert watch.state.asked.wait(PATIENCE_SECONDS)
    watch.wait_for_name(8, "theirs")
    watch.watching.finish()
    watch.watching.join(PATIENCE_SECONDS)
    assert not watch.watching.is_alive()
    assert watch.inventory.labels([7])["container_name"].to_list() == [None]
    watch.state.answers.set()


def test_a_home_that_answers_late(watch: Watch) -> None:
    watch.wait_for_name(8, "theirs")
    watch.state.answers.set()
    watch.wait_for_name(7, "mine")
    watch.watching.finish()
    watch.watching.join(PATIENCE_SECONDS)
    assert watch.notes == []


def test_what_breaks_it_is_a_note(watch: Watch) -> None:
    watch.state.breaks = True
    watch.state.answers.set()
    watch.wait_for_name(8, "theirs")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not watch.notes:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    watch.watching.finish()
    watch.watching.join(PATIENCE_SECONDS)
    assert watch.notes == ["containers of users have no names, from here on: OSError('Stale file handle')"]
