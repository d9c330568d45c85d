# SPDX-License-Identifier: Apache-2.0
"""Totals that are added up only while somebody looks."""

from store_examples import MIDNIGHT_NS, example_rows

from tracer.live.on_demand import OnDemandTotals
from tracer.live.totals import Totals
from tracer.store.schemas import WINDOWS


class Watched:
    """At a time that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.made = 0
        self.totals = OnDemandTotals(self._new, lambda: self.now)

    def _new(self) -> Totals:
        self.made += 1
        return Totals(run_id="run", node_name="node", tick_ns=1_000_000, first_tick=self.made)

    def put(self) -> None:
        self.totals.put(WINDOWS, example_rows(WINDOWS, [MIDNIGHT_NS]))

    def amount(self) -> int:
        return sum(one.cpu_time_ns or 0 for one in self.totals.snapshot().cgroups)


def test_what_came_before_the_first_question_is_not_in_it() -> None:
    watched = Watched()
    watched.put()
    assert watched.made == 0
    assert watched.amount() == 0
    watched.put()
    one = watched.amount()
    assert one > 0
    watched.put()
    assert watched.amount() == 2 * one


def test_it_begins_anew_after_a_minute_of_no_questions() -> None:
    watched = Watched()
    watched.amount()
    watched.put()
    watched.now = 59
    watched.put()
    assert watched.amount() > 0
    watched.now = 120
    watched.put()
    assert watched.amount() == 0
    assert watched.made == 2
    assert watched.totals.snapshot().first_tick == 2
