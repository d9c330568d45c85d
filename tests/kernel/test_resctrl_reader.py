# SPDX-License-Identifier: Apache-2.0
"""Containers of real processes in real cgroups, read from a resctrl file system that answers as the kernel's."""

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import live_node
import pytest
from resctrl_file_system import FakeResctrl
from resctrl_model import LOCAL, OCCUPANCY, TOTAL, Machine

from tracer.errors import NodeUnsupportedError
from tracer.readers.protocol import Cgroup, Observation
from tracer.readers.resctrl.gathering import threads_of
from tracer.readers.resctrl.ownership import owner_of, this_process
from tracer.readers.resctrl.placing import RESERVED_RMIDS
from tracer.readers.resctrl.reader import ResctrlReader

pytestmark = pytest.mark.root

SECOND = 10**9
SLEEP = "exec sleep 600"

# Fifty threads that start a process every half second, each for three quarters of a second.
FORKING = """
import os, threading, time
def fork():
    while True:
        os.posix_spawn("/bin/sleep", ["sleep", "0.75"], {})
        time.sleep(0.5)
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(50):
    threading.Thread(target=fork).start()
print("forking", flush=True)
"""

# A run that makes a group for the cgroup argv[3] and waits.
RUN = """
import sys, time
from pathlib import Path
from tracer.readers.protocol import Cgroup
from tracer.readers.resctrl.reader import ResctrlReader
root, proc, cgroup, container_id = sys.argv[1:]
reader = ResctrlReader(Path(root), Path(cgroup), proc=Path(proc))
reader.read([Cgroup(1, "/", "container", container_id, False)])
print("made", flush=True)
time.sleep(600)
"""


class Container(NamedTuple):
    """A cgroup with processes in it, as the kernel and as the reader see it."""

    live: live_node.Cgroup
    seen: Cgroup

    def start(self, script: str = SLEEP) -> int:
        """Runs a script in it; returns its PID once it is there."""
        process = self.live.start(script)
        while process.pid not in threads_of(self.live.path).tids:
            assert process.poll() is None
            time.sleep(0.005)
        return process.pid


Mount = Callable[..., FakeResctrl]
NewContainer = Callable[..., Container]
Start = Callable[[FakeResctrl], ResctrlReader]


class Clock:
    """A clock that the test sets."""

    now_ns = 1000 * SECOND

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def new_container(own_cgroup: Path) -> Iterator[NewContainer]:
    """Makes containers, by default each in a pod of its own; `own_cgroup` is the root of their paths."""
    made: list[live_node.Cgroup] = []

    def make(pod_uid: str | None = None) -> Container:
        container_id = uuid.uuid4().hex * 2
        path = f"/{pod_uid or uuid.uuid4()}/{container_id}"
        made.append(live_node.Cgroup(own_cgroup / path.lstrip("/")))
        return Container(made[-1], Cgroup(made[-1].id, path, "container", container_id, False, pod_uid))

    yield make
    for cgroup in made:
        cgroup.stop()


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts one file system, with the machine's properties as keywords."""
    mounted: list[FakeResctrl] = []

    def make(**machine: object) -> FakeResctrl:
        mounted.append(FakeResctrl(tmp_path, Machine(**machine)).__enter__())  # type: ignore[arg-type]
        return mounted[-1]

    yield make
    for resctrl in mounted:
        resctrl.__exit__()


@pytest.fixture
def start(own_cgroup: Path, clock: Clock) -> Iterator[Start]:
    """Starts readers; they are closed when the test is over."""
    started: list[ResctrlReader] = []

    def begin(resctrl: FakeResctrl) -> ResctrlReader:
        started.append(ResctrlReader(resctrl.root, own_cgroup, proc=resctrl.proc, clock_ns=clock))
        return started[-1]

    yield begin
    for reader in started:
        reader.close()


def own_group(container: Container) -> str:
    assert container.seen.container_id is not None
    return f"/mon_groups/{this_process().group_name(container.seen.container_id)}"


def llc(observation: Observation) -> list[dict[str, object]]:
    """Rows without what says when and of which group."""
    return observation.rows["llc"].drop("monotonic_ns", "resctrl_group").rows(named=True)


def events(observation: Observation) -> list[tuple[int, str]]:
    return observation.rows["lifecycle"].select("cgroup_id", "event").rows()


def test_rows_say_what_the_kernel_counted_for_each_container_and_domain(
    mount: Mount, start: Start, new_container: NewContainer, clock: Clock
) -> None:
    resctrl = mount(domains={0: [], 8: []})
    container, other = new_container(), new_container()
    pid = container.start()
    other.start()
    reader = start(resctrl)
    seen = [container.seen, other.seen]
    first = reader.read(seen)
    group = own_group(container)
    assert resctrl.tasks(group) == {pid}
    assert [(row["cgroup_id"], row["l3_id"], row["mbm_total_bytes"]) for row in llc(first)] == [
        (container.seen.cgroup_id, 0, None),
        (container.seen.cgroup_id, 8, None),
        (other.seen.cgroup_id, 0, None),
        (other.seen.cgroup_id, 8, None),
    ]
    resctrl.count(group, 8, OCCUPANCY, 4096)
    resctrl.count(group, 8, TOTAL, 1000)
    resctrl.count(group, 8, LOCAL, 600)
    clock.now_ns += SECOND
    second = reader.read(seen)
    assert llc(second)[1] == {
        "cgroup_id": container.seen.cgroup_id,
        "l3_id": 8,
        "llc_occupancy_bytes": 4096,
        "mbm_total_bytes": 1000,
        "mbm_total_interval_ns": SECOND,
        "mbm_local_bytes": 600,
        "mbm_local_interval_ns": SECOND,
    }
    assert llc(second)[3]["mbm_total_bytes"] == 0
    assert second.rows["llc"]["resctrl_group"].to_list()[1] == group
    assert second.rows["llc"]["monotonic_ns"].to_list() == [clock.now_ns] * 4
    assert events(first) == events(second) == []


def test_a_container_that_ends_has_a_last_row_and_leaves_no_group(
    mount: Mount, start: Start, new_container: NewContainer, clock: Clock
) -> None:
    resctrl = mount(domains={0: []})
    container = new_container()
    container.start()
    reader = start(resctrl)
    reader.read([container.seen])
    resctrl.count(own_group(container), 0, TOTAL, 77)
    container.live.stop()
    container.live.path.rmdir()
    clock.now_ns += SECOND
    assert [row["mbm_total_bytes"] for row in llc(reader.read([]))] == [77]
    assert resctrl.groups() == set()
    clock.now_ns += SECOND
    assert llc(reader.read([])) == []


def test_the_groups_are_gone_at_the_end_and_their_threads_where_they_were(
    mount: Mount, start: Start, new_container: NewContainer
) -> None:
    resctrl = mount()
    (resctrl.root / "control").mkdir()
    container = new_container()
    pid = container.start()
    resctrl.move("/control", pid)
    reader = start(resctrl)
    reader.read([container.seen])
    assert resctrl.tasks(f"/control{own_group(container)}") == {pid}
    reader.close()
    assert resctrl.groups() == {"/control"}
    assert pid in resctrl.tasks("/control")


def test_threads_of_cgroups_below_the_container_are_its_own(
    mount: Mount, start: Start, new_container: NewContainer
) -> None:
    resctrl = mount()
    container = new_container()
    inner = Container(live_node.Cgroup(container.live.path / "inner"), container.seen)
    pid = inner.start()
    try:
        reader = start(resctrl)
        reader.read([container.seen])
        assert resctrl.tasks(own_group(container)) == {pid}
    finally:
        inner.live.stop()


def test_an_empty_container_gets_its_group_with_its_first_process(
    mount: Mount, start: Start, new_container: NewContainer
) -> None:
    resctrl = mount()
    container = new_container()
    reader = start(resctrl)
    assert llc(reader.read([container.seen])) == []
    assert resctrl.groups() == set()
    pid = container.start()
    reader.read([container.seen])
    assert resctrl.tasks(own_group(container)) == {pid}


def test_what_is_started_in_a_container_from_outside_is_found_within_ten_seconds(
    mount: Mount, start: Start, new_container: NewContainer, clock: Clock
) -> None:
    resctrl = mount()
    container = new_container()
    first = container.start()
    reader = start(resctrl)
    reader.read([container.seen])
    second = container.start()
    clock.now_ns += 9 * SECOND
    reader.read([container.seen])
    assert resctrl.tasks(own_group(container)) == {first}
    clock.now_ns += SECOND
    reader.read([container.seen])
    assert resctrl.tasks(own_group(container)) == {first, second}


def test_fifty_threads_that_keep_forking_all_end_in_the_group(
    mount: Mount, start: Start, new_container: NewContainer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    resctrl = mount()
    container = new_container()
    program = tmp_path_factory.mktemp("program") / "forking.py"
    program.write_text(FORKING)
    container.start(f"exec {sys.executable} {program}")
    while len(threads_of(container.live.path).tids) < 100:
        time.sleep(0.01)
    reader = start(resctrl)
    group = own_group(container)
    # The clock stands still: only where a look found no end the next one goes on.
    for _look in range(3):
        reader.read([container.seen])
    before = threads_of(container.live.path).tids
    inside = resctrl.tasks(group)
    # One that ended meanwhile is in neither list; one that began is in the later one only.
    assert (before & threads_of(container.live.path).tids) <= inside
    assert len(inside) > 50


@pytest.mark.parametrize("name", ["{container}", "{pod}", "pod_{pod}"])
def test_a_group_that_somebody_else_made_is_read_and_left_alone(
    name: str, mount: Mount, start: Start, new_container: NewContainer, clock: Clock
) -> None:
    resctrl = mount(domains={0: []})
    pod_uid = str(uuid.uuid4())
    container, other = new_container(pod_uid), new_container(pod_uid)
    pod = Cgroup(12345, f"/{pod_uid}", "pod", None, False, pod_uid)
    pids = {container.start(), other.start()}
    group = f"/mon_groups/{name.format(container=container.seen.container_id, pod=pod_uid)}"
    (resctrl.root / group.lstrip("/")).mkdir()
    for pid in pids:
        resctrl.move(group, pid)
    if name == "{container}":
        (resctrl.root / f"mon_groups/{other.seen.container_id}").mkdir()
    groups = resctrl.groups()
    reader = start(resctrl)
    seen = [container.seen, other.seen, pod]
    first = reader.read(seen)
    owners = [container.seen, other.seen] if name == "{container}" else [pod]
    assert [row["cgroup_id"] for row in llc(first)] == [owner.cgroup_id for owner in owners]
    # Nobody knows what was counted before.
    assert llc(first)[0]["mbm_total_bytes"] is None
    resctrl.count(group, 0, TOTAL, 5)
    clock.now_ns += 20 * SECOND
    assert llc(reader.read(seen))[0]["mbm_total_bytes"] == 5
    reader.close()
    assert resctrl.groups() == groups
    assert resctrl.tasks(group) == pids


def test_a_control_group_of_the_container_alone_is_read_itself(
    mount: Mount, start: Start, new_container: NewContainer
) -> None:
    resctrl = mount()
    container = new_container()
    pid = container.start()
    (resctrl.root / str(container.seen.container_id)).mkdir()
    resctrl.move(f"/{container.seen.container_id}", pid)
    reader = start(resctrl)
    rows = reader.read([container.seen]).rows["llc"]
    assert set(rows["resctrl_group"]) == {f"/{container.seen.container_id}"}
    assert resctrl.groups() == {f"/{container.seen.container_id}"}


def test_a_container_in_a_group_of_unknown_extent_is_left_there_and_said_to_be_unmonitored(
    mount: Mount, start: Start, new_container: NewContainer, clock: Clock
) -> None:
    resctrl = mount()
    container = new_container()
    pid = container.start()
    (resctrl.root / "mon_groups/night-shift").mkdir()
    resctrl.move("/mon_groups/night-shift", pid)
    reader = start(resctrl)
    first = reader.read([container.seen])
    assert events(first) == [(container.seen.cgroup_id, "llc_unmonitored")]
    assert any("another program" in note for note in first.notes)
    again = reader.read([container.seen])
    assert events(again) == []
    assert again.notes == []
    assert resctrl.tasks("/mon_groups/night-shift") == {pid}
    (resctrl.root / "mon_groups/night-shift").rmdir()
    clock.now_ns += SECOND
    freed = reader.read([container.seen])
    assert events(freed) == [(container.seen.cgroup_id, "llc_monitored")]
    assert len(llc(freed)) == 2


def test_a_group_that_a_plugin_makes_later_takes_the_place_of_the_tracers_own(
    mount: Mount, start: Start, new_container: NewContainer, clock: Clock
) -> None:
    resctrl = mount()
    container = new_container()
    pid = container.start()
    reader = start(resctrl)
    reader.read([container.seen])
    theirs = f"/mon_groups/{container.seen.container_id}"
    (resctrl.root / theirs.lstrip("/")).mkdir()
    resctrl.move(theirs, pid)
    for _look in range(2):
        clock.now_ns += 10 * SECOND
        rows = reader.read([container.seen]).rows["llc"]
    assert set(rows["resctrl_group"]) == {theirs}
    assert resctrl.groups() == {theirs}
    assert resctrl.tasks(theirs) == {pid}


def test_a_container_that_moves_to_another_control_group_gets_a_group_there(
    mount: Mount, start: Start, new_container: NewContainer, clock: Clock
) -> None:
    resctrl = mount()
    container = new_container()
    pid = container.start()
    reader = start(resctrl)
    reader.read([container.seen])
    (resctrl.root / "control").mkdir()
    resctrl.move("/control", pid)
    clock.now_ns += 10 * SECOND
    reader.read([container.seen])
    assert resctrl.groups() == {"/control", f"/control{own_group(container)}"}
    assert resctrl.tasks(f"/control{own_group(container)}") == {pid}


def test_a_container_that_is_split_between_control_groups_does_not_use_up_rmids(
    mount: Mount, start: Start, new_container: NewContainer, clock: Clock
) -> None:
    resctrl = mount(num_rmids=RESERVED_RMIDS + 4)
    container = new_container()
    container.start()
    (resctrl.root / "control").mkdir()
    resctrl.move("/control", container.start())
    reader = start(resctrl)
    for _look in range(9):
        reader.read([container.seen])
        clock.now_ns += SECOND
    (resctrl.root / "one").mkdir()
    assert resctrl.groups() == {"/control", "/one"}
    # One RMID went into limbo, not one a second.
    for number in range(RESERVED_RMIDS):
        (resctrl.root / f"mon_groups/{number}").mkdir()


def test_the_busiest_have_the_groups_that_there_are_and_the_others_are_told_of(
    mount: Mount, start: Start, new_container: NewContainer, clock: Clock
) -> None:
    resctrl = mount(num_rmids=RESERVED_RMIDS + 3)
    idle = [new_container() for _ in range(3)]
    for container in idle:
        container.start()
    busy = new_container()
    busy.start(live_node.SPIN)
    while live_node.cpu_time_ns(busy.live.path) < SECOND // 2:
        time.sleep(0.01)
    seen = [container.seen for container in (*idle, busy)]
    reader = start(resctrl)
    first = reader.read(seen)
    assert len(resctrl.groups()) == 2
    assert own_group(busy) in resctrl.groups()
    assert len(events(first)) == 2
    assert {event for _cgroup, event in events(first)} == {"llc_unmonitored"}
    assert busy.seen.cgroup_id not in dict(events(first))
    assert any("in use" in note for note in first.notes)
    # The next gets the place of one that goes, as soon as its RMID can be used again.
    waiting = set(dict(events(first)))
    busy.live.stop()
    busy.live.path.rmdir()
    clock.now_ns += SECOND
    gone = reader.read(seen[:-1])
    assert [event for _cgroup, event in events(gone)] == ["llc_monitored"]
    assert set(dict(events(gone))) < waiting
    # The others' RMIDs were never touched.
    for number in range(RESERVED_RMIDS - 1):
        (resctrl.root / f"mon_groups/{number}").mkdir()


def test_groups_are_tried_again_while_their_rmids_are_in_limbo(
    mount: Mount, start: Start, new_container: NewContainer
) -> None:
    resctrl = mount(num_rmids=RESERVED_RMIDS + 3)
    for number in range(RESERVED_RMIDS + 2):
        (resctrl.root / f"mon_groups/{number}").mkdir()
    for number in range(RESERVED_RMIDS + 2):
        (resctrl.root / f"mon_groups/{number}").rmdir()
    container = new_container()
    container.start()
    reader = start(resctrl)
    refused = reader.read([container.seen])
    assert events(refused) == [(container.seen.cgroup_id, "llc_unmonitored")]
    assert events(reader.read([container.seen])) == []
    resctrl.release_limbo()
    assert events(reader.read([container.seen])) == [(container.seen.cgroup_id, "llc_monitored")]


def test_a_file_without_a_number_is_null_and_no_other_is(
    mount: Mount, start: Start, new_container: NewContainer, clock: Clock
) -> None:
    resctrl = mount(domains={0: []})
    container = new_container()
    container.start()
    group = own_group(container)
    reader = start(resctrl)
    reader.read([container.seen])
    resctrl.count(group, 0, OCCUPANCY, 1)
    for said, event in (("Unavailable", TOTAL), ("Error", OCCUPANCY), ("Unassigned", LOCAL)):
        resctrl.count(group, 0, TOTAL, 100)
        resctrl.count(group, 0, LOCAL, 10)
        resctrl.say("*", 0, event, said)
        clock.now_ns += SECOND
        observation = reader.read([container.seen])
        resctrl.say("*", 0, event, None)
        (row,) = llc(observation)
        values = {
            OCCUPANCY: row["llc_occupancy_bytes"],
            TOTAL: row["mbm_total_bytes"],
            LOCAL: row["mbm_local_bytes"],
        }
        assert [name for name, value in values.items() if value is None] == [event]
        assert observation.health == {"llc_values_missing": 1}
        assert observation.notes == [f"{event} in llc is null at times: {said}"]
    clock.now_ns += SECOND
    resctrl.count(group, 0, LOCAL, 10)
    # The second that `Unavailable` hid was made good in the next; an assignment begins to count anew.
    (row,) = llc(reader.read([container.seen]))
    assert row["mbm_local_bytes"] is None
    assert row["mbm_total_bytes"] == 0


def test_under_sub_numa_clustering_a_domain_has_one_row_with_the_kernels_sum(
    mount: Mount, start: Start, new_container: NewContainer
) -> None:
    resctrl = mount(domains={0: [0, 1], 1: [2, 3]})
    container = new_container()
    container.start()
    reader = start(resctrl)
    reader.read([container.seen])
    resctrl.count(own_group(container), 0, OCCUPANCY, 100, node=0)
    resctrl.count(own_group(container), 0, OCCUPANCY, 11, node=1)
    rows = llc(reader.read([container.seen]))
    assert [(row["l3_id"], row["llc_occupancy_bytes"]) for row in rows] == [(0, 111), (1, 0)]


def test_a_domain_that_comes_back_counts_anew(
    mount: Mount, start: Start, new_container: NewContainer, clock: Clock
) -> None:
    resctrl = mount(domains={0: [], 8: []})
    container = new_container()
    container.start()
    reader = start(resctrl)
    reader.read([container.seen])
    told = []
    for change in (None, resctrl.take_offline, resctrl.put_online, None):
        if change is not None:
            change(8)
        resctrl.count(own_group(container), 8, TOTAL, 150)
        clock.now_ns += SECOND
        told.append([row["mbm_total_bytes"] for row in llc(reader.read([container.seen])) if row["l3_id"] == 8])
    assert told == [[150], [], [None], [150]]


def test_a_processor_that_only_knows_occupancy_has_no_traffic(
    mount: Mount, start: Start, new_container: NewContainer
) -> None:
    resctrl = mount(features=(OCCUPANCY, "mbm_total_bytes_config"))
    container = new_container()
    container.start()
    observation = start(resctrl).read([container.seen])
    assert llc(observation)[0]["llc_occupancy_bytes"] == 0
    assert llc(observation)[0]["mbm_total_bytes"] is None
    assert observation.health == {"llc_values_missing": 0}


def test_the_groups_of_a_run_that_was_killed_are_removed_and_no_others(
    mount: Mount, start: Start, new_container: NewContainer
) -> None:
    resctrl = mount()
    (resctrl.root / "control").mkdir()
    containers = [new_container(), new_container()]
    runs = []
    for container in containers:
        resctrl.move("/control", container.start())
        runs.append(
            subprocess.Popen(
                [
                    *(sys.executable, "-c", RUN, str(resctrl.root), str(resctrl.proc)),
                    *(str(container.live.path), str(container.seen.container_id)),
                ],
                stdout=subprocess.PIPE,
            )
        )
    killed, living = runs
    try:
        for run in runs:
            assert run.stdout is not None
            assert run.stdout.readline() == b"made\n"
        (resctrl.root / "mon_groups/trc-mine").mkdir()
        killed.kill()
        killed.wait()
        assert len(resctrl.groups()) == 4
        start(resctrl)
        left = resctrl.groups() - {"/control", "/mon_groups/trc-mine"}
        owners = [owner_of(Path(group).name) for group in left]
        assert [owner and owner.pid for owner in owners] == [living.pid]
    finally:
        for run in runs:
            run.kill()
            run.communicate()


def test_a_second_run_reads_the_groups_of_the_first(mount: Mount, start: Start, new_container: NewContainer) -> None:
    resctrl = mount(domains={0: []})
    container = new_container()
    container.start()
    first, second = start(resctrl), start(resctrl)
    first.read([container.seen])
    assert len(llc(second.read([container.seen]))) == 1
    assert resctrl.groups() == {own_group(container)}
    second.close()
    assert resctrl.groups() == {own_group(container)}
    first.close()
    assert llc(second.read([])) == []


def test_a_group_that_its_maker_removed_is_looked_for_anew(
    mount: Mount, start: Start, new_container: NewContainer, clock: Clock
) -> None:
    resctrl = mount(domains={0: []})
    container = new_container()
    container.start()
    theirs = resctrl.root / f"mon_groups/{container.seen.container_id}"
    theirs.mkdir()
    reader = start(resctrl)
    reader.read([container.seen])
    resctrl.count(f"/mon_groups/{theirs.name}", 0, TOTAL, 100)
    clock.now_ns += SECOND
    assert llc(reader.read([container.seen]))[0]["mbm_total_bytes"] == 100
    theirs.rmdir()
    theirs.mkdir()
    resctrl.count(f"/mon_groups/{theirs.name}", 0, TOTAL, 150)
    clock.now_ns += SECOND
    assert llc(reader.read([container.seen])) == []
    # 150 bytes of the new group, not 50 more than the old one had.
    assert llc(reader.read([container.seen]))[0]["mbm_total_bytes"] is None


def test_processes_that_this_pid_namespace_does_not_see_are_never_taken_for_the_tracer(
    mount: Mount, tmp_path_factory: pytest.TempPathFactory
) -> None:
    resctrl = mount()
    cgroup = tmp_path_factory.mktemp("cgroup")
    (cgroup / "cgroup.threads").write_text("0\n0\n")
    reader = ResctrlReader(resctrl.root, cgroup, proc=resctrl.proc)
    observation = reader.read([Cgroup(7, "/", "container", "ab" * 32, False)])
    assert events(observation) == [(7, "llc_unmonitored")]
    assert any("PID namespace" in note for note in observation.notes)
    assert resctrl.groups() == set()


def test_a_directory_that_is_no_resctrl_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(NodeUnsupportedError, match="cannot monitor"):
        ResctrlReader(tmp_path, tmp_path)
    (tmp_path / "info/L3_MON").mkdir(parents=True)
    (tmp_path / "info/L3_MON/mon_features").write_text("llc_occupancy\n")
    (tmp_path / "info/L3_MON/num_rmids").write_text("many\n")
    with pytest.raises(NodeUnsupportedError, match="num_rmids"):
        ResctrlReader(tmp_path, tmp_path)
