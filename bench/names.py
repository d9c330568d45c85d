# SPDX-License-Identifier: Apache-2.0
"""How soon a new container has its name, and what names cost: walking, watching, reading, joining, looking again.

    python bench/names.py [CONTAINERS]

Containers are cgroups as the kubelet and containerd nest them, below a cgroup of the bench's own, each with a bundle
of some 20 kB in a state directory of the bench's own, written before the cgroup is made, as containerd does. Another
process makes them at about 80 a second; no runtime takes part. The time of a name is from before `mkdir` to the names
of the bundle in the inventory, by way of the pipeline's own thread. Those that lived but some milliseconds are removed
with their bundle: they are told of if the inventory met their cgroup, and named if it read the bundle, too.
"""

import contextlib
import itertools
import json
import multiprocessing
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path

import polars as pl
from _common import need_root, print_machine, print_mark
from _containers import Container, cgroup_tree, remove_cgroups

from tracer.cgroup_event import CgroupEvent
from tracer.containers.cgroupfs import find_cgroup2_mount
from tracer.containers.identity import ContainerKey
from tracer.containers.inotify_watch import InotifyWatch
from tracer.containers.inventory import Arrival, Inventory
from tracer.containers.runtime_state import ContainerNames, RuntimeState
from tracer.containers.walk import walk
from tracer.kernel.cgroup_events import CgroupEvents
from tracer.pipeline.asking import Asking
from tracer.pipeline.frames import labelled_rows
from tracer.pipeline.watching import Watching
from tracer.pipeline.windows import RECORDS_SCHEMA, aggregate_windows, llc_lookup, scale_counters
from tracer.store.schemas import WINDOWS

CONTAINERS = 600
LIVING = 110  # the kubelet's own limit of pods
SHORT_LIVED = 200
LIVES_SECONDS = (0.0, 0.001, 0.005, 0.02)
PACE_SECONDS = 0.01
SETTLE_SECONDS = 0.5
WALKED = 10_000
LABELLED = 1_000
WINDOW_TICKS = 60
# One second in two batches of half a second: 17 windows of 60 ticks.
BATCHES_IN_WINDOWS = (9, 8)
SECONDS_OF_JOINS = 20
DEAD = 32_000
ROUNDS = 200
TICK_NS = 1_000_000


def times_ms(call: Callable[[], object], rounds: int) -> list[float]:
    """Milliseconds of each call."""
    times = []
    for _round in range(rounds):
        begun = time.perf_counter()
        call()
        times.append((time.perf_counter() - begun) * 1e3)
    return times


def watch_once(root: Path) -> None:
    """Adds a watch to each cgroup, as inotify needs before the first event."""
    with InotifyWatch(root) as watch:
        watch.start()


def bench_walk(root: Path) -> None:
    pods = WALKED // 10
    for _pod in range(pods):
        pod = Container.new(root, Path("/")).pod
        pod.mkdir(parents=True)
        for _container in range(9):
            (pod / f"cri-containerd-{random.randbytes(32).hex()}.scope").mkdir()
    # The tree's own top and two slices are three more.
    assert len(walk(root)) == WALKED + 3
    walks = times_ms(lambda: walk(root), 7)
    inventories = times_ms(lambda: Inventory(root), 3)
    watches = times_ms(lambda: watch_once(root), 3)
    print(f"{WALKED:,} cgroups, ms: walk p50 {statistics.median(walks):.1f}, max {max(walks):.1f};")
    print(f"  with their identities {max(inventories):.1f}; a watch of inotify on each {max(watches):.1f}")
    print_mark("walk of 10,000 cgroups, s", max(walks) / 1e3, at_most=1)


@contextlib.contextmanager
def watched(state: Path, events: CgroupEvents | None) -> Iterator[Inventory]:
    """The inventory as the pipeline fills it: from the kernel, or from inotify where `events` is None; without NRI."""
    mount = find_cgroup2_mount()
    inventory = Inventory(mount, expect_names=True)
    watching = Watching(
        inventory=inventory,
        root=mount,
        cgroup_events=events,
        nri_socket=None,
        runtime_state=RuntimeState(containerd_states=[state]),
        see_beginning=lambda _cgroup_id: None,
        see_end=lambda _cgroup_id: None,
        note=print,
    )
    watching.start()
    # inotify begins in the thread.
    time.sleep(SETTLE_SECONDS)
    try:
        yield inventory
    finally:
        watching.finish()
        watching.join()


def make_containers(root: Path, state: Path, containers: int) -> dict[int, int]:
    """The runtime's part: CLOCK_MONOTONIC before each `mkdir`, by cgroup id. Few of them live at the same time."""
    made_ns: dict[int, int] = {}
    living: deque[Container] = deque()
    for _number in range(containers):
        container = Container.new(root, state)
        container.write_bundle()
        container.pod.mkdir(parents=True)
        before_ns = time.monotonic_ns()
        container.cgroup.mkdir()
        made_ns[container.cgroup.stat().st_ino] = before_ns
        living.append(container)
        if len(living) > LIVING:
            oldest = living.popleft()
            remove_cgroups(oldest.pod)
            oldest.remove_bundle()
        time.sleep(random.uniform(0.5, 1.5) * PACE_SECONDS)
    for container in living:
        remove_cgroups(container.pod)
        container.remove_bundle()
    return made_ns


def make_short_lived(root: Path, state: Path, life_seconds: float) -> set[int]:
    """The runtime's part: ids of containers of which nothing is left after so short a life, their pods apart."""
    ids = set()
    for _number in range(SHORT_LIVED):
        container = Container.new(root, state)
        container.write_bundle()
        container.pod.mkdir(parents=True)
        container.cgroup.mkdir()
        ids.add(container.cgroup.stat().st_ino)
        if life_seconds:
            time.sleep(life_seconds)
        container.cgroup.rmdir()
        container.remove_bundle()
        time.sleep(PACE_SECONDS)
        container.pod.rmdir()
    return ids


def bench_names(
    name: str, runtime: Executor, root: Path, state: Path, events: CgroupEvents | None, containers: int
) -> list[float]:
    """Milliseconds from `mkdir` to the name; prints what became of those that were gone soon."""
    with watched(state, events) as inventory:
        cpu_begun = time.process_time()
        made_ns = runtime.submit(make_containers, root, state, containers).result()
        time.sleep(SETTLE_SECONDS)
        cpu_ms = (time.process_time() - cpu_begun) * 1e3 / containers
        named_ns = {change.cgroup_id: change.time_ns for change in inventory.take_changes() if change.event == "named"}
        times = [(named_ns[id_] - before_ns) / 1e6 for id_, before_ns in made_ns.items() if id_ in named_ns]
        print(
            f"{name:8} {len(times)} of {containers} named, after p50 {statistics.median(times):.2f} ms, "
            f"p99 {p99(times):.2f} ms, max {max(times):.2f} ms; {cpu_ms:.2f} ms CPU each"
        )
        for life_seconds in LIVES_SECONDS:
            ids = runtime.submit(make_short_lived, root, state, life_seconds).result()
            time.sleep(SETTLE_SECONDS)
            changes = inventory.take_changes()
            told, named = (
                len(ids & {change.cgroup_id for change in changes if change.event == event})
                for event in ("created", "named")
            )
            print(f"  lived {life_seconds * 1e3:g} ms: of {len(ids)} {told} told of, {named} named")
    # One that got no name has waited for ever.
    return times + [float("inf")] * (containers - len(times))


def bench_bundles(root: Path, state: Path) -> None:
    """Reading alone."""
    containers = [Container.new(root, state) for _number in range(200)]
    for container in containers:
        container.write_bundle()
    runtime_state = RuntimeState(containerd_states=[state])
    keys = itertools.cycle(ContainerKey(container.container_id) for container in containers)
    times = times_ms(lambda: runtime_state.names(next(keys), "containerd"), 1000)
    absent = times_ms(lambda: runtime_state.names(ContainerKey("0" * 64), "containerd"), 1000)
    size = (containers[0].bundle / "config.json").stat().st_size
    print(
        f"a bundle of {size:,} bytes: p50 {statistics.median(times) * 1e3:.0f} us, p99 {p99(times) * 1e3:.0f} us; "
        f"none there: p50 {statistics.median(absent) * 1e3:.0f} us"
    )
    for container in containers:
        container.remove_bundle()


def window_rows(cgroup_ids: list[int], first_window: int, windows: int) -> pl.DataFrame:
    """A row for each cgroup in each window."""
    ticks = [first_window * WINDOW_TICKS + WINDOW_TICKS * window for window in range(windows)]
    records = pl.DataFrame({"tick": ticks}).join(pl.DataFrame({"cgroup_id": cgroup_ids}), how="cross")
    values = {name: pl.lit(1) for name in RECORDS_SCHEMA.names() if name not in records.columns}
    records = records.with_columns(**values | {"cpu": pl.lit(0)}).select(RECORDS_SCHEMA.names())
    return aggregate_windows(
        scale_counters(records.cast(RECORDS_SCHEMA)),
        window_ticks=WINDOW_TICKS,
        first_tick=0,
        last_tick=None,
        llc_by_cpu=llc_lookup({0: 0}),
    )


def bench_labels(root: Path, state: Path) -> None:
    """Joining as the pipeline does it: who is it (`resolve`), the labels, the join."""
    containers = [Container.new(root, state) for _number in range(LABELLED)]
    runtime_state = RuntimeState(containerd_states=[state])
    for container in containers:
        container.cgroup.mkdir(parents=True)
        container.write_bundle()
    inventory = Inventory(root, expect_names=True)
    for move in inventory.take_moves():
        assert isinstance(move, Arrival)
        names = runtime_state.names(move.key, move.runtime)
        assert names is not None
        inventory.give_names(move.key, names, "runtime")
    batches = [
        window_rows([container.cgroup.stat().st_ino for container in containers], 1000 * number, windows)
        for number, windows in enumerate(BATCHES_IN_WINDOWS)
    ]

    def label(rows: pl.DataFrame) -> pl.DataFrame:
        cgroup_ids = rows["cgroup_id"].unique().to_list()
        assert not inventory.resolve(cgroup_ids)
        return labelled_rows(
            rows,
            inventory.labels(cgroup_ids),
            inventory.earlier_labels(cgroup_ids),
            columns=WINDOWS.schema.names,
            node_name="bench",
            time_column=WINDOWS.time_column,
            time_ns=pl.col("window_tick").cast(pl.Int64) * TICK_NS,
        )

    for rows in batches:
        labelled = label(rows)
        assert labelled["pod_name"].null_count() == 0
        assert labelled["container_name"].null_count() == 0
    cpu_seconds = []
    for _second in range(SECONDS_OF_JOINS):
        begun = time.process_time()
        for rows in batches:
            label(rows)
        cpu_seconds.append(time.process_time() - begun)
    share = statistics.median(cpu_seconds)
    rows_a_second = sum(rows.height for rows in batches)
    print(f"{LABELLED:,} containers, {rows_a_second:,} rows/s: {share * 1e3:.1f} ms CPU a second, all threads")
    print_mark("joining labels, % of a core", share * 100, at_most=1)
    for container in containers:
        container.remove_bundle()


def bench_dead(root: Path) -> None:
    """What one more container costs the labels of those that run, among many that do not exist any more."""
    inventory = Inventory(root)
    living = [add_container(inventory) for _number in range(LABELLED)]
    inventory.labels(living)
    few = [cost_of_one_more(inventory, living) for _number in range(ROUNDS)]
    for _number in range(DEAD):
        dead = add_container(inventory)
        inventory.see(CgroupEvent(time.monotonic_ns(), "removed", dead, ""), "kernel")
    inventory.labels(living)
    inventory.take_changes()
    inventory.take_moves()
    many = [cost_of_one_more(inventory, living) for _number in range(ROUNDS)]
    for what, times in ((f"{LABELLED:,} containers", few), (f"{DEAD:,} dead ones beside them", many)):
        print(f"labels after one more, {what}: mean {statistics.mean(times):.2f} ms, max {max(times):.2f} ms")
    print_mark("one more container among the dead, ms", statistics.mean(many), at_most=1)


def add_container(inventory: Inventory) -> int:
    """One with a name, which no directory has; its cgroup's id."""
    container = Container.new(Path("/"), Path("/"))
    cgroup_id = random.getrandbits(62)
    inventory.see(CgroupEvent(time.monotonic_ns(), "created", cgroup_id, str(container.cgroup)), "kernel")
    names = ContainerNames(
        runtime="containerd",
        container_name="main",
        pod_name="pod",
        pod_uid=container.pod_uid,
        namespace="bench",
    )
    inventory.give_names(ContainerKey(container.container_id), names, "runtime")
    return cgroup_id


def cost_of_one_more(inventory: Inventory, living: list[int]) -> float:
    """Milliseconds of CPU time."""
    begun = time.process_time()
    living[random.randrange(len(living))] = add_container(inventory)
    inventory.take_changes()
    inventory.take_moves()
    inventory.labels(living)
    return (time.process_time() - begun) * 1e3


def bench_renames(root: Path, state: Path) -> None:
    """Looking each second whether any of many containers, all of Docker, was renamed; and after one was."""
    inventory = Inventory(root, expect_names=True)
    now = [0.0]
    asking = Asking(inventory, RuntimeState(state), lambda: now[0])
    files = []
    for _number in range(LABELLED):
        container_id = random.randbytes(32).hex()
        files.append(state / "var/lib/docker/containers" / container_id / "config.v2.json")
        files[-1].parent.mkdir(parents=True)
        files[-1].write_text(json.dumps({"Name": "/old", "Config": {"Env": ["VARIABLE=value"] * 300}}))
        path = f"/system.slice/docker-{container_id}.scope"
        inventory.see(CgroupEvent(time.monotonic_ns(), "created", random.getrandbits(62), path), "kernel")
    for move in inventory.take_moves():
        asking.take(move)
    asking.ask()
    inventory.take_changes()
    looks = []
    for number in range(ROUNDS):
        new = files[number].with_name("new")
        new.write_text(json.dumps({"Name": f"/new-{number}"}))
        new.rename(files[number])
        now[0] += 1
        begun = time.process_time()
        asking.ask()
        looks.append((time.process_time() - begun) * 1e3)
    # The first look reads all once more.
    renamed = sum(change.event == "named" for change in inventory.take_changes())
    print(f"a look at {LABELLED:,} containers, of which one was renamed: p50 {statistics.median(looks):.1f} ms CPU")
    assert renamed == ROUNDS
    print_mark("looking for renamed containers each second, % of a core", statistics.median(looks) / 10, at_most=1)


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[-1]


def main() -> None:
    need_root()
    containers = int(sys.argv[1]) if len(sys.argv) > 1 else CONTAINERS
    # So that the cgroups are removed then, too.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    print_machine()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory, cgroup_tree() as root, ProcessPoolExecutor(1, spawn) as runtime:
        state = Path(directory)
        bench_walk(root)
        remove_cgroups(root / "kubepods.slice")
        bench_bundles(root, state)
        bench_names("inotify", runtime, root, state, None, containers)
        with CgroupEvents() as events:
            events.start()
            times = bench_names("kernel", runtime, root, state, events, containers)
            print(f"  events lost: {events.lost}")
        print_mark("from mkdir to the name, p99, ms", p99(times), at_most=20)
        bench_labels(root, state)
        remove_cgroups(root / "kubepods.slice")
        bench_dead(root)
        bench_renames(root, state)


if __name__ == "__main__":
    main()
