# SPDX-License-Identifier: Apache-2.0
"""A reader that wants to know is told of a cgroup's first process at once, not at its next pass."""

import queue
from collections.abc import Sequence
from pathlib import Path

import pytest

from tracer.cgroup_event import CgroupEvent
from tracer.containers.inventory import Inventory
from tracer.pipeline.housekeeping.health import ReaderHealth
from tracer.pipeline.observing import Observing
from tracer.pipeline.watching import Watching
from tracer.readers.protocol import Cgroup, Observation, Reader

PATIENCE_SECONDS = 20
NEVER_NS = 10**18
CONTAINER = "a" * 64
POD_UID = "11111111-2222-3333-4444-555555555555"


class Curious(Reader):
    """Says what it was called with."""

    name = "curious"

    def __init__(self, *, wants_beginnings: bool) -> None:
        self.wants_beginnings = wants_beginnings
        self.said: queue.SimpleQueue[tuple[str, list[Cgroup]]] = queue.SimpleQueue()

    def read(self, cgroups: Sequence[Cgroup]) -> Observation:
        self.said.put(("read", list(cgroups)))
        return Observation({})

    def read_beginning(self, cgroups: Sequence[Cgroup]) -> None:
        self.said.put(("beginning", list(cgroups)))

    def read_ending(self, cgroups: Sequence[Cgroup]) -> None:
        self.said.put(("ending", list(cgroups)))


class NoRows:
    """In the place of the labelling: there are none."""

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("wants_beginnings", [True, False])
def test_a_beginning_is_read_between_passes_where_it_is_wanted(tmp_path: Path, wants_beginnings: bool) -> None:
    directory = tmp_path / "kubepods" / f"pod{POD_UID}" / CONTAINER
    directory.mkdir(parents=True)
    cgroup_id = directory.stat().st_ino
    reader = Curious(wants_beginnings=wants_beginnings)
    observing = Observing(
        reader,
        NEVER_NS,
        inventory=Inventory(tmp_path),
        labelling=NoRows(),  # type: ignore[arg-type]
        health=ReaderHealth(),
        note=lambda _text: None,
    )
    observing.start()
    try:
        assert reader.said.get(timeout=PATIENCE_SECONDS)[0] == "read"
        observing.see_beginning(cgroup_id)
        observing.see_beginning(2**63)
        observing.see_end(cgroup_id)
        told = []
        while not told or told[-1][0] != "ending":
            told.append(reader.said.get(timeout=PATIENCE_SECONDS))
        seen = Cgroup(cgroup_id, f"/kubepods/pod{POD_UID}/{CONTAINER}", "container", CONTAINER, False, POD_UID)
        beginnings = [cgroups for kind, cgroups in told if kind == "beginning" and cgroups]
        assert beginnings == ([[seen]] if wants_beginnings else [])
    finally:
        observing.finish()
        observing.join()


class Events:
    """In the place of the kernel's events: those of the test, once."""

    lost = 0

    def __init__(self, *events: CgroupEvent) -> None:
        self._events = [*events]

    def read(self, _seconds: float) -> list[CgroupEvent]:
        events, self._events = self._events, []
        return events


def test_the_watch_tells_of_the_first_process(tmp_path: Path) -> None:
    told: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
    watching = Watching(
        inventory=Inventory(tmp_path),
        root=tmp_path,
        cgroup_events=Events(  # type: ignore[arg-type]
            CgroupEvent(1, "created", 7, "/a"), CgroupEvent(2, "populated", 7, "/a"), CgroupEvent(3, "emptied", 7, "/a")
        ),
        nri_socket=None,
        runtime_state=None,  # type: ignore[arg-type]
        see_beginning=lambda cgroup_id: told.put(("beginning", cgroup_id)),
        see_end=lambda cgroup_id: told.put(("end", cgroup_id)),
        note=lambda _text: None,
    )
    watching.start()
    try:
        assert told.get(timeout=PATIENCE_SECONDS) == ("beginning", 7)
        assert told.get(timeout=PATIENCE_SECONDS) == ("end", 7)
    finally:
        watching.finish()
        watching.join()
