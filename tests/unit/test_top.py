# SPDX-License-Identifier: Apache-2.0
"""`tracer top`: figures from two snapshots, the screen at two sizes, and what keys do."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from live_snapshots import SECOND_NS, container, pair, snapshot

from tracer.errors import UsageError
from tracer.live.snapshot import CgroupTotals, Snapshot
from tracer.live.top.history import SECONDS, History
from tracer.live.top.rates import rates_between
from tracer.live.top.screen import course, paint, plain
from tracer.live.top.view import View

SCREENS = Path(__file__).parents[1] / "screens"


def busy(number: int, second: int, **more: object) -> CgroupTotals:
    """A container that ran half of each second, and waited a quarter, more the higher its number."""
    wait_ns = second * SECOND_NS // 4 * (number + 1) // 4
    return container(
        number, cpu_time_ns=second * SECOND_NS // 2, wait_time_ns=wait_ns, wait_behind_others_ns=wait_ns * 3 // 4,
        wait_behind_self_ns=wait_ns // 4, wait_idle_ns=0, wait_throttled_ns=0, stolen_time_ns=0,
        cycles=second * 3_000_000, instructions=second * 2_000_000, llc_misses=second * 10_000, mbm_total_bytes=None,
        **more,
    )  # fmt: skip


def node(second: int, count: int = 8) -> Snapshot:
    """A node after so many seconds: the odd ones wait behind container 0."""
    cgroups = [busy(number, second) for number in range(count)]
    pairs = [pair(number, 0, second * 10_000_000 * number) for number in range(1, count, 2)]
    return snapshot(cgroups, seconds=second, pairs=pairs, health={"records": 1000 * second})


def watched(seconds: int = 5, make: Callable[[int], Snapshot] = node) -> History:
    history = History()
    for second in range(1, seconds + 1):
        history.add(make(second))
    return history


def text_of(history: History, view: View, width: int, height: int) -> str:
    lines = paint(history, view, width, height)
    assert len(lines) == height
    texts = ["".join(text for text, _style in line) for line in lines]
    assert all(len(text) <= width for text in texts)
    return "\n".join(text.rstrip() for text in texts) + "\n"


def test_figures_are_of_the_time_between() -> None:
    rates = rates_between(node(4), node(6))
    assert rates.seconds == 2
    assert rates.records == 2000
    one = next(one for one in rates.containers if one.name == "shop/web-3/app")
    assert one.cpus == pytest.approx(0.5)
    # A quarter of a second waited to each half second run.
    assert one.ran == pytest.approx(2 / 3)
    assert one.lost == pytest.approx(1 / 3 * 3 / 4)
    assert one.self_wait == pytest.approx(1 / 3 / 4)
    assert (one.cpi, one.mpki) == (1.5, 5.0)
    assert one.traffic == 10_000 * 64
    assert one.by == "shop/web-0/app"
    assert one.throttled == 0


def test_what_is_not_measured_is_null() -> None:
    def bare(second: int) -> Snapshot:
        unit = CgroupTotals(cgroup_id=1, cgroup_kind="unit", cgroup_path="/a.service", cpu_time_ns=second)
        return snapshot([unit], seconds=second)

    (one,) = rates_between(bare(1), bare(2)).containers
    assert (one.lost, one.cpi, one.mpki, one.traffic, one.by, one.memory_bytes) == (None,) * 6
    assert "-" not in text_of(watched(3, bare), View(), 80, 24).splitlines()[2].split()


def test_who_did_nothing_is_not_there() -> None:
    still = [busy(1, 5), busy(2, 5)]
    assert rates_between(snapshot(still, seconds=5), snapshot(still, seconds=6)).containers == []


def test_who_is_new_counts_from_its_beginning() -> None:
    (one,) = rates_between(snapshot([], seconds=5), snapshot([busy(1, 1)], seconds=6)).containers
    assert one.cpus == pytest.approx(0.5)


def test_cgroups_of_one_container_are_one() -> None:
    both = [busy(1, 2), msgspec.structs.replace(busy(1, 2), cgroup_id=77)]
    (one,) = rates_between(None, snapshot(both, seconds=2)).containers
    assert one.cpus == pytest.approx(1.0)


def test_another_run_begins_anew() -> None:
    history = watched(5)
    assert not history.add(msgspec.structs.replace(node(3), run_id="b"))
    assert history.now is None


def test_where_counting_has_begun_anew_nothing_is_less_than_before() -> None:
    history = watched(5)
    assert not history.add(msgspec.structs.replace(node(1), first_tick=9000, last_tick=9999))
    assert history.now is not None
    assert history.add(msgspec.structs.replace(node(2), first_tick=9000, last_tick=10_999))
    assert all(one.cpus >= 0 for one in history.now.containers)


def test_one_in_which_nothing_has_come_yet_is_no_beginning() -> None:
    history = History()
    assert not history.add(msgspec.structs.replace(node(1), cgroups=[], last_tick=None, time_ns=None))
    assert not history.add(node(1))
    assert history.add(node(2))
    assert history.now is not None
    assert history.now.seconds == 1


def test_a_minute_is_kept() -> None:
    history = watched(SECONDS + 20)
    assert len(history.course("shop/web-1/app", "lost")) == SECONDS


def test_where_seconds_have_no_room_each_bar_is_the_highest_of_some() -> None:
    values: list[float | None] = [0.0] * 59 + [0.5]
    assert course(values, 6, 0.5) == "▁▁▁▁▁█"
    assert course([None] * 30 + [0.5] * 30, 60, 0.5) == " " * 30 + "█" * 30
    assert course([], 6, 0.5) == " " * 6


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
@pytest.mark.parametrize("what", ["list", "page", "help", "filter"])
def test_the_screen(what: str, width: int, height: int, request: pytest.FixtureRequest) -> None:
    view = View(selected="shop/web-3/app")
    if what == "page":
        view.page = "shop/web-3/app"
    if what == "filter":
        view.filter, view.is_typing = "web-5", True
    view.is_help = what == "help"
    shown = text_of(watched(30), view, width, height)
    path = SCREENS / f"{what}-{width}x{height}.txt"
    if request.config.getoption("--update-transcripts"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(shown)
    assert shown == path.read_text()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (5, 2), (20, 3), (79, 24), (400, 200)])
@pytest.mark.parametrize("seconds", [0, 1, 5])
def test_it_is_painted_at_any_size(width: int, height: int, seconds: int) -> None:
    for view in (View(), View(page="shop/web-1/app"), View(page="nobody"), View(is_help=True), View(filter="x")):
        text_of(watched(seconds), view, width, height)


def test_names_do_no_harm() -> None:
    def hostile(second: int) -> Snapshot:
        name = "a\x1b[2J\u202eb\n"
        return snapshot([container(1, pod_name=name, cpu_time_ns=second * 10**8, wait_time_ns=second)], seconds=second)

    shown = text_of(watched(3, hostile), View(), 80, 24) + text_of(watched(3, hostile), View(page="x\x1b"), 80, 24)
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_sorting_and_filtering() -> None:
    now = watched(5).now
    assert now is not None
    view = View()
    assert view.rows(now.containers)[0].name == "shop/web-7/app"
    view.is_inverted = True
    assert view.rows(now.containers)[0].name == "shop/web-0/app"
    view = View(filter="WEB-2")
    assert [one.name for one in view.rows(now.containers)] == ["shop/web-2/app"]
    view = View(sort="name")
    assert [one.name for one in view.rows(now.containers)] == sorted(one.name for one in now.containers)


def test_what_nobody_is_measured_by_is_no_column_to_sort_by() -> None:
    now = watched(5).now
    assert now is not None
    without = [msgspec.structs.replace(one, cpi=None, mpki=None, traffic=None) for one in now.containers]
    view, seen = View(), []
    for _step in range(3):
        view.sort_by_next(without, 1)
        seen.append(view.sort)
    assert seen == ["cpus", "name", "lost_tasks"]
    view.sort_by_next(without, -1)
    assert view.sort == "name"


def test_once_prints_all_of_them() -> None:
    lines = plain(watched(3), View(), 100)
    assert len(lines) == 2 + 8
    assert plain(History(), View(), 100) == ["no second has been traced yet"]


def test_keys() -> None:
    from tracer.live.top.app import TopApp

    second = 0
    written: list[str] = []

    def now() -> Snapshot:
        nonlocal second
        second += 1
        return node(second)

    def write() -> str:
        written.append("w")
        raise UsageError("this run has no flight recorder")

    async def drive() -> None:
        history = watched(1)
        app = TopApp(now, write, history)
        async with app.run_test(size=(80, 24)) as pilot:
            now_ = history
            while now_.now is None:
                await pilot.pause(0.1)
            view = app._view
            await pilot.press("down", "down", "up")
            assert view.selected == "shop/web-6/app"
            await pilot.press("enter")
            assert view.page == "shop/web-6/app"
            await pilot.press("escape")
            assert view.page is None
            await pilot.press("slash", "w", "e", "b", "minus", "3", "backspace", "4")
            assert (view.filter, view.is_typing) == ("web-4", True)
            await pilot.press("enter", "escape")
            assert (view.filter, view.is_typing) == ("", False)
            await pilot.press("p")
            assert view.sort == "cpus"
            await pilot.press("greater_than_sign")
            assert view.sort == "cpi"
            await pilot.press("I", "space")
            assert view.is_inverted
            assert view.is_paused
            await pilot.press("w")
            assert view.message == "this run has no flight recorder"
            assert written == ["w"]
            await pilot.press("h")
            assert view.is_help
            await pilot.press("q")
        assert app.failure is None

    asyncio.run(drive())


def test_a_run_that_is_gone_from_the_start_ends_it() -> None:
    from tracer.live.top.app import TopApp

    def gone() -> Snapshot:
        raise UsageError("no tracer runs behind it")

    async def drive() -> TopApp:
        app = TopApp(gone, lambda: "", History())
        async with app.run_test() as pilot:
            # A thread asks.
            for _ in range(3000):
                if app.failure is not None:
                    break
                await pilot.pause(0.01)
        return app

    assert str(asyncio.run(drive()).failure) == "no tracer runs behind it"
