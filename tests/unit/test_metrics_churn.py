# SPDX-License-Identifier: Apache-2.0
"""Series over many scrapes, while containers come, go, share names and do not fit: none falls, nothing is missing."""

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_snapshots import SECOND_NS, Served, container, pair, snapshot, values

from tracer.live.metrics.ledger import OTHER, Account, Ledger
from tracer.live.metrics.pairs import PairLedger
from tracer.live.metrics.slots import Slots
from tracer.live.snapshot import Amounts, CgroupTotals, Snapshot

CPU = "tracer_container_cpu_seconds_total"


def cpu_of(served: Served, now: Snapshot) -> dict[str, float]:
    return {pod: value for (_namespace, pod, _name), value in values(served.scrape(now), CPU).items() if pod}


def test_a_dead_containers_series_goes_after_a_scrape_that_showed_its_last_value() -> None:
    served = Served()
    start_ns = snapshot().time_ns or 0
    alive, dead = container(1), {"removed_ns": start_ns}
    assert cpu_of(served, snapshot([alive, container(2)])) == {"web-1": 5.0, "web-2": 5.0}
    # Rows may still come.
    cpu = cpu_of(served, snapshot([container(1, cpu_time_ns=6 * SECOND_NS, **dead), container(2)], seconds=11))
    assert cpu == {"web-1": 6.0, "web-2": 5.0}
    last = container(1, cpu_time_ns=7 * SECOND_NS, **dead)
    assert cpu_of(served, snapshot([last, container(2)], seconds=20)) == {"web-1": 7.0, "web-2": 5.0}
    assert cpu_of(served, snapshot([last, container(2)], seconds=21)) == {"web-2": 5.0}
    # What comes very late is not lost, and does not bring it back.
    late = container(1, cpu_time_ns=8 * SECOND_NS, **dead)
    series = values(served.scrape(snapshot([late, container(2)], seconds=22)), CPU)
    assert series == {("shop", "web-2", "app"): 5.0, ("", "", "other"): 1.0}


def test_a_container_that_is_started_again_goes_on_under_its_name() -> None:
    served = Served()
    start_ns = snapshot().time_ns or 0
    old, new = container(1), container(2, pod_name="web-1")
    assert cpu_of(served, snapshot([old])) == {"web-1": 5.0}
    gone = msgspec.structs.replace(old, removed_ns=start_ns)
    assert cpu_of(served, snapshot([gone, new], seconds=20)) == {"web-1": 10.0}
    # Also where the last value of the old one was shown before the new one came.
    third = container(3, pod_name="web-1", cpu_time_ns=SECOND_NS)
    gone_too = msgspec.structs.replace(new, removed_ns=start_ns + 15 * SECOND_NS)
    assert cpu_of(served, snapshot([gone, gone_too], seconds=40)) == {"web-1": 10.0}
    assert cpu_of(served, snapshot([gone, gone_too, third], seconds=41)) == {"web-1": 11.0}


def test_stolen_time_that_falls_a_little_does_not() -> None:
    served = Served()
    for stolen_ns, shown in ((700, 7e-7), (600, 7e-7), (650, 7e-7), (800, 8e-7)):
        series = served.scrape(snapshot([container(1, stolen_time_ns=stolen_ns)]))
        assert values(series, "tracer_container_stolen_seconds_total")["shop", "web-1", "app"] == pytest.approx(shown)
    below = served.scrape(snapshot([container(2, stolen_time_ns=-5)]))
    assert values(below, "tracer_container_stolen_seconds_total")["shop", "web-2", "app"] == 0


def test_two_that_are_busy_in_turns_do_not_change_places() -> None:
    ledger = Ledger(1)
    used = {1: 0, 2: 0}
    shown = []
    for turn in range(200):
        used[1 + turn % 2] += SECOND_NS
        cgroups = [container(number, cpu_time_ns=cpu_ns) for number, cpu_ns in used.items()]
        ledger.look(snapshot(cgroups, seconds=15 * turn))
        shown.append({labels.pod for labels, _values in ledger.shown() if labels.pod})
    assert shown == [{"web-1"}] * 200
    assert ledger.evictions == 0


def test_one_that_is_much_busier_gets_a_place_and_the_eviction_is_counted() -> None:
    ledger = Ledger(1)
    ledger.look(snapshot([container(1)]))
    for turn in range(1, 30):
        cgroups = [container(1), container(2, cpu_time_ns=turn * SECOND_NS)]
        ledger.look(snapshot(cgroups, seconds=15 * turn))
    assert [labels.pod for labels, _values in ledger.shown() if labels.pod] == ["web-2"]
    assert ledger.evictions == 1
    assert (ledger.containers_shown, ledger.containers_hidden) == (1, 1)


def test_free_places_go_to_the_heaviest() -> None:
    slots: Slots[str] = Slots(2)
    assert slots.choose({"a": 1, "b": 3, "c": 2}) == []
    assert slots.taken == {"b", "c"}
    assert slots.choose({"a": 3.9, "b": 3, "c": 2}) == []
    assert slots.choose({"a": 4.1, "b": 3, "c": 2}) == ["c"]
    assert slots.choose({"a": 1, "c": 9}) == []
    assert slots.taken == {"a", "c"}


def test_pairs_are_never_more_than_what_the_victim_waited() -> None:
    ledger, pairs = Ledger(10), PairLedger(10)
    # Rows of `waits` that a snapshot lacks come with the next one.
    for waited_ns, behind_ns, shown_ns in ((100, 60, 60), (150, 150, 110), (200, 200, 160)):
        now = snapshot([container(1, wait_behind_others_ns=waited_ns), container(2)], pairs=[pair(1, 2, behind_ns)])
        ledger.look(now)
        pairs.look(now, ledger, 1.0)
        ((_pair, pair_ns),) = pairs.shown()
        assert pair_ns == shown_ns
        assert pair_ns + pairs.rest_ns == waited_ns + 40


# A node on which anything happens: by cgroup its labels, whether it lives, and what it used and waited behind the next.
_EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["run", "die", "forget", "rename", "scrape", "scrape", "return"]),
        st.integers(1, 8),
        st.integers(0, 5_000_000_000),
    ),
    min_size=20,
    max_size=80,
)


@settings(max_examples=200)
@given(_EVENTS)
def test_no_series_falls_and_together_they_are_what_the_totals_are(events: list[tuple[str, int, int]]) -> None:
    ledger, pairs = Ledger(2), PairLedger(2)
    living: dict[int, dict[str, Any]] = {}
    others, now_s = Amounts(), 0.0
    waited: Counter[tuple[int, int]] = Counter()
    shown_before: dict[Any, tuple[int | None, ...]] = {}
    pairs_before: dict[Any, int] = {}
    rest_before = 0
    risen = 0
    # Who loses a place and has another one later goes on from there.
    counted: dict[Account, int] = {}

    def now() -> Snapshot:
        cgroups = [container(number, **fields) for number, fields in living.items()]
        listed = [pair(*key, ns) for key, ns in waited.items() if key[0] in living]
        return snapshot(cgroups, pairs=listed, others=others, seconds=now_s)

    for what, number, amount in events:
        now_s += 60
        if what in ("run", "return") and number not in living:
            living[number] = dict.fromkeys(Amounts.__struct_fields__) | {
                "cpu_time_ns": 0, "wait_time_ns": 0, "wait_behind_others_ns": 0, "pod_name": f"web-{number % 5}",
            }  # fmt: skip
        if what in ("run", "return"):
            fields = living[number]
            for name in ("cpu_time_ns", "wait_time_ns", "wait_behind_others_ns"):
                fields[name] += amount
            waited[number, number % 8 + 1] += amount
        elif what == "die" and number in living:
            living[number]["removed_ns"] = now().time_ns
        elif what == "forget" and number in living:
            fields = living.pop(number)
            for key in [key for key in waited if key[0] == number]:
                del waited[key]
            others = Amounts(
                **{
                    name: (getattr(others, name) or 0) + fields[name]
                    for name in ("cpu_time_ns", "wait_time_ns", "wait_behind_others_ns")
                }
            )
        elif what == "rename" and number in living:
            living[number]["pod_name"] = f"web-{amount % 5}"
        elif what == "scrape":
            at = now()
            ledger.look(at)
            pairs.look(at, ledger, 0.9)
            shown = dict(ledger.shown())
            for labels, amounts in shown.items():
                for after, before in zip(amounts, shown_before.get(labels, amounts), strict=True):
                    assert before is None or (after is not None and after >= before)
            whole = sum(fields["cpu_time_ns"] for fields in living.values()) + (others.cpu_time_ns or 0)
            shown_pairs = dict(pairs.shown())
            assert pairs.rest_ns >= rest_before
            for key, ns in shown_pairs.items():
                assert ns >= pairs_before.get(key, 0) or key not in pairs_before
            # All that the totals rose by is in some series, whoever has it.
            for labels, account in ledger.accounts.items():
                if labels in shown:
                    cpu_ns = account.shown[0] or 0
                    risen += cpu_ns - counted.get(account, 0)
                    counted[account] = cpu_ns
            assert risen == whole
            shown_before, pairs_before, rest_before = shown, shown_pairs, pairs.rest_ns
            assert len(shown) <= 2 + 2
            assert len(shown_pairs) <= 2


def test_a_cgroup_that_the_totals_left_out_and_found_again_is_counted_once() -> None:
    ledger = Ledger(5)
    first: CgroupTotals = container(1, cpu_time_ns=100)
    ledger.look(snapshot([first]))
    ledger.look(snapshot([container(1, cpu_time_ns=5)], others=Amounts(cpu_time_ns=110)))
    shown = {labels: amounts[0] for labels, amounts in ledger.shown()}
    assert shown[OTHER] == 10
    assert sum(value or 0 for value in shown.values()) == 115
