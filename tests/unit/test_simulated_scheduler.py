# SPDX-License-Identifier: Apache-2.0
"""The scheduler of the simulated node by itself: who runs, who waits behind whom, and that nothing gets lost."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.simulate.scenario import Container, Scenario, Scheduling
from tracer.simulate.scheduler import NOT_KNOWN, TICK_NS, Schedule, Scheduler, Wishes
from tracer.simulate.shape import NodeShape

ONE_CPU = NodeShape(cpus=1, llc_domains=1, smt=False)
MS = TICK_NS


def scheduler(containers: list[Container], shape: NodeShape = ONE_CPU, **rules: Any) -> Scheduler:
    scenario = Scenario(name="own", containers=containers, scheduling=Scheduling(**rules))
    scenario.check(shape)
    threads = np.array([index for index, c in enumerate(containers) for _ in range(c.threads)])
    return Scheduler(scenario, shape, threads)


def wishes(work_ns: Any, *, offset_ns: Any = 0, first_tick: int = 0, cpus: int = 1, stolen: Any = (0, 0)) -> Wishes:
    """Of these [T, J] ns of work; homes are CPU 0, all live, and each tick has this stolen piece."""
    work = np.array(work_ns, np.int64)
    begin, end = (np.full((len(work), cpus), bound, np.int64) for bound in stolen)
    return Wishes(
        first_tick=first_tick,
        homes=np.zeros(work.shape, np.int64),
        work_ns=work,
        offset_ns=np.broadcast_to(np.array(offset_ns, np.int64), work.shape).copy(),
        is_alive=np.ones(work.shape, bool),
        stolen_from_ns=begin,
        stolen_until_ns=end,
    )


def spinner(name: str, **traits: Any) -> Container:
    return Container(name=name, pod="p", is_batch=True, **traits)


def service(name: str, **traits: Any) -> Container:
    return Container(name=name, pod="p", **traits)


def waited_ns(done: Schedule) -> int:
    """As the records have it."""
    return int(done.slots["wait_ns"].sum() + done.earlier["wait_ns"].sum())


def test_two_that_want_all_take_turns_and_wait_for_each_other_alone() -> None:
    done = scheduler([spinner("a"), spinner("b")], leaving_idle_us=0).run(wishes(np.full((60, 2), MS)))
    assert done.slots["time_ns"].sum(axis=0).tolist() == [30 * MS, 30 * MS]
    assert (done.slots["time_ns"].sum(axis=1) == MS).all()
    # Slices of 3 ms: b waits 10 times behind a; a 10 times behind b, the last of which has not ended.
    assert done.waited[:2].tolist() == [[0, 27 * MS, 0, 0], [30 * MS, 0, 0, 0]]
    assert waited_ns(done) == 57 * MS
    assert done.slots["involuntary"].sum() == done.slots["switches"].sum() == 20
    # Waits of whole ticks, that begin and end at their bounds.
    assert set(done.earlier["wait_ns"].tolist()) == {MS}
    assert done.slots["wait_ns"].sum() == 0


def test_time_is_shared_by_weight_and_a_containers_threads_share_its_own() -> None:
    containers = [spinner("a", cpu_weight=300), spinner("b", threads=2)]
    done = scheduler(containers).run(wishes(np.full((4000, 3), MS)))
    a, *b = (done.slots["time_ns"].sum(axis=0) / (4000 * MS)).tolist()
    assert a == pytest.approx(0.75, abs=0.01)
    assert b == pytest.approx([0.125, 0.125], abs=0.01)
    # Of b's wait a fifth is its own.
    assert done.waited[1, 1] / done.waited[1].sum() == pytest.approx(1 / 7, abs=0.01)


@pytest.mark.parametrize("wakes_preempt", [True, False])
def test_who_wakes_waits_for_a_slice_unless_wake_ups_preempt(wakes_preempt: bool) -> None:
    work = np.zeros((100, 2), np.int64)
    work[:, 0] = MS
    work[5::10, 1] = MS // 10
    own = scheduler([spinner("a"), service("s")], wakes_preempt=wakes_preempt, slice_us=8_000)
    done = own.run(wishes(work, offset_ns=MS // 3))
    assert done.slots["waits"][:, 1].sum() == 10
    assert done.slots["time_ns"][:, 1].sum() == MS
    if wakes_preempt:
        assert done.waited[1].sum() == 0
        assert done.slots["involuntary"][:, 0].sum() == 10
    else:
        assert 10 * MS < done.waited[1, 0] == done.waited[1].sum() < 80 * MS


def test_an_idle_cpu_takes_a_moment_to_run_anybody() -> None:
    done = scheduler([service("s")], leaving_idle_us=20).run(wishes([[MS // 2]] * 5))
    assert done.waited[0].tolist() == [0, 0, 5 * 20_000]
    assert done.idle_switches.tolist() == [[1]] * 5
    assert done.slots["time_ns"].tolist() == [[MS // 2]] * 5


def test_a_quota_that_is_used_up_keeps_from_running_to_the_periods_end() -> None:
    own = scheduler([spinner("a", cpu_quota=0.3), service("s")], leaving_idle_us=0)
    work = np.zeros((200, 2), np.int64)
    work[:, 0] = MS
    work[50, 1] = MS
    done = own.run(wishes(work))
    assert done.slots["time_ns"].sum(axis=0).tolist() == [60 * MS, MS]
    assert done.throttled.tolist() == [(0, 0, 30 * MS, 100 * MS), (0, 0, 130 * MS, 200 * MS)]
    # Whoever runs meanwhile; the second wait has not ended.
    assert done.waited[0].tolist() == [0, 0, 70 * MS, 0]
    assert done.throttled_ns().tolist() == [140 * MS, 0]
    assert done.throttled_periods.tolist() == done.periods.tolist() == [2, 0]
    following = own.run(wishes(np.zeros((100, 2), np.int64), first_tick=200))
    assert following.waited[0].tolist() == [0, 0, 70 * MS, 0]
    assert following.earlier["tick"].tolist() == list(range(130, 200))


def test_of_stolen_time_nothing_is_done() -> None:
    done = scheduler([service("s")], leaving_idle_us=0).run(
        wishes([[MS // 2], [0]], stolen=(MS // 4, MS // 4 + MS // 10))
    )
    assert done.slots["time_ns"].tolist() == [[MS // 2 + MS // 10], [0]]
    assert done.slots["stolen_ns"].tolist() == [[MS // 10], [0]]


def test_a_wait_is_told_by_tick_with_its_own_containers_part() -> None:
    """c has one thread that runs until the tick's middle, and one that waits for it and then for a."""
    containers = [service("c", threads=2), spinner("a", cpu_weight=10_000)]
    work = np.zeros((40, 3), np.int64)
    work[0] = [MS, MS, 0]
    work[:, 2] = MS
    offset = np.zeros((40, 3), np.int64)
    offset[0] = [MS // 2, MS // 2 + 100, MS - 1]
    done = scheduler(containers, wakes_preempt=False, leaving_idle_us=0, slice_us=700).run(
        wishes(work, offset_ns=offset)
    )
    first = done.earlier[done.earlier["container"] == 0][0]
    assert (first["tick"], first["wait_ns"]) == (0, MS // 2 - 100)
    assert first["wait_self_ns"] == MS // 2 - 100
    assert (done.earlier["wait_self_ns"][done.earlier["wait_ns"] == MS] == NOT_KNOWN).all()


def test_threads_go_where_there_is_room() -> None:
    shape = NodeShape(cpus=4, llc_domains=1, smt=False)
    own = scheduler([spinner(name) for name in "abcd"], shape)
    done = own.run(wishes(np.full((50, 4), MS), cpus=4))
    assert sorted(done.slots["cpu"][10].tolist()) == [0, 1, 2, 3]
    assert done.waited[:, :4].sum() == 0
    pinned = scheduler([spinner(name, cpus=[2]) for name in "ab"], shape)
    assert set(
        pinned.run(wishes(np.full((50, 2), MS), cpus=4)._replace(homes=np.full((50, 2), 2))).slots["cpu"].flat
    ) == {2}


@given(
    seed=st.integers(0, 2**32), cpus=st.sampled_from([1, 2, 6]), threads=st.integers(1, 9),
    busy=st.floats(0.1, 1.0), preempt=st.booleans(), quota=st.sampled_from([None, 0.2, 1.5]),
)  # fmt: skip
def test_time_and_waits_add_up_whatever_is_wished(
    seed: int, cpus: int, threads: int, busy: float, preempt: bool, quota: float | None
) -> None:
    random = np.random.default_rng(seed)
    shape = NodeShape(cpus=cpus, llc_domains=1, smt=False)
    containers = [
        Container(name=f"c{index}", pod="p", threads=int(random.integers(1, 4)), is_batch=bool(random.integers(2)),
                  cpu_weight=int(random.integers(1, 1000)), cpu_quota=quota if index == 0 else None)
        for index in range(threads)
    ]  # fmt: skip
    count = sum(container.threads for container in containers)
    own = scheduler(containers, shape, wakes_preempt=preempt, slice_us=int(random.integers(100, 9000)))
    lived = random.integers(0, 300, (2, count))
    for first in (0, 150):
        ticks = np.arange(first, first + 150)[:, None]
        asked = wishes(
            random.integers(1, MS + 1, (150, count)) * (random.random((150, count)) < busy),
            offset_ns=random.integers(0, MS, (150, count)), first_tick=first, cpus=cpus, stolen=(MS // 3, MS // 2),
        )._replace(
            homes=random.integers(0, cpus, (150, count)),
            is_alive=(ticks >= lived.min(axis=0)) & (ticks < lived.max(axis=0)),
        )  # fmt: skip
        done = own.run(asked)
        slots = done.slots
        by_cpu = np.zeros((150, cpus), np.int64)
        np.add.at(by_cpu, (np.arange(150)[:, None].repeat(count, 1), slots["cpu"]), slots["time_ns"])
        assert by_cpu.min() >= 0
        assert by_cpu.max() <= MS
        assert (slots["stolen_ns"] <= slots["time_ns"]).all()
        assert (slots["time_ns"][~asked.is_alive] == 0).all()
        assert waited_ns(done) == done.waited.sum()
        assert (slots["wait_self_ns"] <= slots["wait_ns"]).all()
        assert (slots["involuntary"] <= slots["switches"]).all()
        assert ((done.earlier["wait_ns"] > 0) & (done.earlier["wait_ns"] <= MS)).all()
        if quota is not None:
            of_first = slots["time_ns"][:, : containers[0].threads] - slots["stolen_ns"][:, : containers[0].threads]
            assert of_first.sum() <= quota * 100 * MS * 2
