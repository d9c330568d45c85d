# SPDX-License-Identifier: Apache-2.0
"""Every row of every container says who it was: on a real containerd, by its state on disk and by NRI."""

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from containerd_node import Container, ContainerdNode, Pod
from live_node import SPIN, Cgroup, Result, Tracer, cpu_time_ns, stolen_ns
from starvation import Starvation

pytestmark = pytest.mark.root

SPIN_FOR_EVER = ("sh", "-c", SPIN)
COUNT_TO_1000 = "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done"
NAMES = ("cgroup_kind", "runtime", "container_name", "pod_name", "pod_uid", "namespace", "qos_class")
TIMES = {"windows": "window_start", "ticks": "tick_start", "lifecycle": "time"}
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
# The plug-in comes back after half a second, a second, two.
RECONNECTED_SECONDS = 4


@pytest.fixture(params=["state on disk", "NRI"])
def trace(
    request: pytest.FixtureRequest, containerd: ContainerdNode, tmp_path: Path
) -> Iterator[Callable[..., Tracer]]:
    """Starts a tracer that has names from one source only."""
    options = {
        "state on disk": ("--nri", "off", "--containerd-state", str(containerd.state)),
        "NRI": ("--nri", str(containerd.nri_socket)),
    }[request.param]
    started: list[Tracer] = []

    def start() -> Tracer:
        started.append(Tracer(tmp_path / "results", "--ticks", "--rotate", "5s", *options))
        started[-1].wait_until_tracing()
        return started[-1]

    yield start
    for tracer in started:
        if tracer.process.poll() is None:
            tracer.process.kill()
        tracer.process.communicate()


def end(tracer: Tracer) -> Result:
    # The last batch of records, and a container's second of grace.
    time.sleep(1.5)
    tracer.process.terminate()
    return tracer.result()


def assert_named(
    result: Result,
    node: ContainerdNode,
    containers: list[Container],
    pods: list[Pod],
    was_starved: Callable[[str], bool] = lambda _container_id: False,
) -> None:
    """In all tables, all rows of these containers and sandboxes, and nothing is unknown.

    `was_starved`: whether the tracer got no CPU in a container's life. What is on disk alone is gone by then.
    """
    # The machine may have containers of its own.
    of_node = pl.col("container_id").is_not_null() & pl.col("cgroup_path").str.starts_with(f"/{node.cgroup.name}/")
    for table_name, time_column in TIMES.items():
        table = result.table(table_name)
        if table_name != "lifecycle":
            assert table.filter(pl.col("cgroup_kind") == "unknown").is_empty()
        said = {
            container_id: rows.filter(pl.col(time_column) >= named_from(result, container_id))
            .select(NAMES)
            .unique()
            .rows()
            for (container_id,), rows in table.filter(of_node).group_by("container_id")
        }
        for container in containers:
            pod = container.pod
            expected = ("container", "containerd", container.name, pod.name, pod.uid, pod.namespace, "burstable")
            nameless = ("container", None, None, *expected[3:])
            names = said.pop(container.id)
            assert names == [expected] or (names == [nameless] and was_starved(container.id))
        for pod in pods:
            # The pause container may not run again, but its beginning is always told.
            if table_name == "lifecycle" or pod.id in said:
                expected = ("sandbox", "containerd", None, pod.name, pod.uid, pod.namespace, "burstable")
                assert said.pop(pod.id) == [expected]
        assert said == {}
    assert_pods_named(result, node, pods)
    assert result.manifest.totals.unknown_rows == 0
    assert result.manifest.totals.records_lost == 0


def named_from(result: Result, container_id: object) -> datetime:
    """From when on its rows have names: from its start, unless these came too late for rows that wait for a second."""
    own = result.table("lifecycle").filter(container_id=container_id)
    created, named = (own.filter(event=event)["time"].min() for event in ("created", "named"))
    if not isinstance(created, datetime) or not isinstance(named, datetime):
        return LONG_AGO
    return named if named - created > timedelta(seconds=1) else LONG_AGO


def assert_pods_named(result: Result, node: ContainerdNode, pods: list[Pod]) -> None:
    """The pods' own cgroups, which are in no container."""
    lifecycle, resources = result.table("lifecycle"), result.table("resources")
    for pod in pods:
        path = f"/{node.cgroup.name}/{pod.cgroup.relative_to(node.cgroup)}"
        expected = ("pod", None, None, pod.name, pod.uid, pod.namespace, "burstable")
        named = lifecycle.filter(cgroup_path=path, event="named")
        assert named.select(NAMES).rows() == [expected]
        # A row of before the pod was made may not have waited long enough for its name.
        later = resources.filter(pl.col("cgroup_path") == path, pl.col("time") > named["time"].item())
        assert set(later.select(NAMES).rows()) <= {expected}


def test_pods_that_come_and_go(
    containerd: ContainerdNode, run_pod: Callable[..., Pod], trace: Callable[..., Tracer]
) -> None:
    before = run_pod("before", namespace="shop")
    containers = [containerd.run_container(before, "app", *SPIN_FOR_EVER)]
    stolen = stolen_ns()
    tracer = trace()

    two = run_pod("two", namespace="shop")
    containers += [containerd.run_container(two, name, *SPIN_FOR_EVER) for name in ("app", "sidecar")]
    brief = containerd.run_container(two, "brief", "sh", "-c", "exit 3")
    containerd.wait_for_exit(brief)
    containers.append(brief)
    containerd.exec_in(containers[1], "sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")
    time.sleep(2)
    read_ns = time.monotonic_ns()
    used_ns = {container: cpu_time_ns(container.cgroup) for container in containers[1:3]}
    went_on_ns = {}
    for container in containers[1:3]:
        containerd.stop_container(container)
        went_on_ns[container] = time.monotonic_ns() - read_ns

    same_name = []
    for _ in range(2):
        pod = run_pod("again")
        containers.append(containerd.run_container(pod, "app", *SPIN_FOR_EVER))
        time.sleep(0.3)
        containerd.remove_pod(pod)
        same_name.append(pod)
    result = end(tracer)

    assert_named(result, containerd, containers, [before, two, *same_name])
    windows = result.table("windows").with_columns(pl.col("container_id"))
    for container, used in used_ns.items():
        traced = windows.filter(pl.col("container_id") == container.id)["cpu_time_ns"].sum()
        assert used * 0.99 <= traced <= used * 1.01 + went_on_ns[container] + stolen_ns() - stolen
    events = result.table("lifecycle").filter(pl.col("container_id") == containers[1].id)
    assert {"created", "named", "populated", "emptied", "removed"} <= set(events["event"])


def test_containerd_is_restarted(
    containerd: ContainerdNode, run_pod: Callable[..., Pod], trace: Callable[..., Tracer]
) -> None:
    tracer = trace()
    first = run_pod("first")
    containers = [containerd.run_container(first, "app", *SPIN_FOR_EVER)]
    time.sleep(0.5)
    containerd.restart_containerd()
    time.sleep(RECONNECTED_SECONDS)
    second = run_pod("second")
    containers.append(containerd.run_container(second, "app", *SPIN_FOR_EVER))
    time.sleep(0.5)
    assert_named(end(tracer), containerd, containers, [first, second])


def test_a_burst_of_pods(containerd: ContainerdNode, trace: Callable[..., Tracer]) -> None:
    tracer = trace()
    starvation = Starvation(tracer.process.pid)

    def live(number: int) -> tuple[Pod, Container]:
        pod = containerd.run_pod(f"burst-{number}", namespace="load")
        try:
            container = containerd.run_container(
                pod, "job", "sh", "-c", "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done"
            )
            containerd.wait_for_exit(container)
        finally:
            containerd.remove_pod(pod)
        return pod, container

    with ThreadPoolExecutor(4) as pool:
        lives = list(pool.map(live, range(100)))
    result = end(tracer)

    def was_starved(container_id: str) -> bool:
        clock = result.manifest.clock.start
        ahead_ns = clock.anchor_realtime_ns - clock.anchor_monotonic_ns
        times = result.table("lifecycle").filter(container_id=container_id)["time"].dt.epoch("ns") - ahead_ns
        return starvation.between(int(times.min()) - 200_000_000, int(times.max()) + 200_000_000) > 50_000_000  # type: ignore[arg-type]

    of_containers = [container for _pod, container in lives]
    assert_named(result, containerd, of_containers, [pod for pod, _container in lives], was_starved)
    health = result.table("health")
    assert health["cgroup_events_lost"].sum() == health["nri_events_lost"].sum() == 0
    # Of one that was just made it may take a moment.
    assert health.sort("time")["unresolved_cgroups"][-1] == 0


def test_a_container_within_a_container(
    containerd: ContainerdNode, run_pod: Callable[..., Pod], trace: Callable[..., Tracer]
) -> None:
    """As a Docker in a pod makes it: its name is nowhere on the node, its pod's is that of the outer one."""
    tracer = trace()
    pod = run_pod("builder", namespace="ci")
    outer = containerd.run_container(pod, "docker", *SPIN_FOR_EVER)
    inner_id = uuid.uuid4().hex * 2
    inner = Cgroup(outer.cgroup / "docker" / inner_id)
    try:
        inner.start(SPIN)
        time.sleep(3)
    finally:
        inner.stop()
        inner.path.rmdir()
        inner.path.parent.rmdir()
    result = end(tracer)

    expected = ("container", "docker", None, pod.name, pod.uid, pod.namespace, "burstable")
    for table_name in ("windows", "ticks", "resources", "lifecycle"):
        rows = result.table(table_name)
        of_inner = rows.filter(container_id=inner_id)
        assert of_inner.select(NAMES).unique().rows() == [expected]
        assert of_inner["cgroup_id"].unique().to_list() == [inner.id]
        of_outer = rows.filter(container_id=outer.id)
        assert of_outer.select(NAMES).unique().rows() == [
            ("container", "containerd", "docker", pod.name, pod.uid, pod.namespace, "burstable")
        ]
    assert "named" not in result.table("lifecycle").filter(cgroup_id=inner.id)["event"]
