# SPDX-License-Identifier: Apache-2.0
"""Who waited behind whom: the largest pairs of victim and holder, and all the rest together."""

from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

from tracer.live.metrics.ledger import OTHER, Labels, Ledger
from tracer.live.metrics.slots import Slots
from tracer.live.snapshot import Snapshot

_FORGOTTEN_NS: Final = 1_000.0


class Pair(NamedTuple):
    """Both as they are shown."""

    victim: Labels
    holder: Labels


class _Account:
    def __init__(self) -> None:
        self.shown_ns = 0
        self.waiting_ns = 0
        """Not shown yet, since the victim's own series has not risen by it."""
        self.weight = 0.0


class PairLedger:
    """Of one run; one thread uses it, after the ledger of the containers took the same snapshot.

    Between two looks the pairs of a victim never rise by more than its own series of waiting behind others, and all
    pairs with the rest by exactly what these do together: so shares are never more than the whole.
    """

    def __init__(self, most_pairs: int) -> None:
        self.rest_ns = 0
        """What no pair has that is shown."""
        self._slots: Slots[Pair] = Slots(most_pairs)
        self._accounts: dict[Pair, _Account] = {}
        self._seen: dict[tuple[int, int], int] = {}

    def look(self, snapshot: Snapshot, ledger: Ledger, remembered: float) -> None:
        """Takes what has come since the last look. `remembered`: how much of the weights until then still counts."""
        there = {labels for labels, _values in ledger.shown()}
        self._accounts = {
            pair: account
            for pair, account in self._accounts.items()
            if pair.victim in there
            and pair.holder in there
            and (account.weight > _FORGOTTEN_NS or pair in self._slots.taken)
        }
        for account in self._accounts.values():
            account.weight *= remembered
        for pair, fresh_ns in self._fresh(snapshot, ledger.displayed).items():
            account = self._accounts.setdefault(pair, _Account())
            account.waiting_ns += fresh_ns
            account.weight += fresh_ns
        self._slots.choose({pair: account.weight for pair, account in self._accounts.items()})
        left_ns = {labels: account.waited_ns for labels, account in ledger.accounts.items() if labels in there}
        # The first of a victim's pairs has what there is: the same order each time.
        for pair, account in sorted(self._accounts.items(), key=lambda item: (-item[1].weight, item[0])):
            if pair not in self._slots.taken:
                account.waiting_ns = 0
                continue
            shown_ns = min(account.waiting_ns, left_ns[pair.victim])
            account.shown_ns += shown_ns
            account.waiting_ns -= shown_ns
            left_ns[pair.victim] -= shown_ns
        self.rest_ns += sum(left_ns.values())

    def shown(self) -> Iterator[tuple[Pair, int]]:
        """The pairs that have a series, and its value in ns."""
        for pair in sorted(self._slots.taken):
            yield pair, self._accounts[pair].shown_ns

    def _fresh(self, snapshot: Snapshot, displayed: dict[int, Labels]) -> Counter[Pair]:
        fresh: Counter[Pair] = Counter()
        seen: dict[tuple[int, int], int] = {}
        for one in snapshot.pairs:
            holder_id = one.holder_cgroup_id
            if holder_id is None or holder_id == one.cgroup_id or one.holder_cgroup_kind == "idle":
                continue
            key = one.cgroup_id, holder_id
            before_ns = self._seen.get(key, 0)
            seen[key] = one.wait_time_ns
            # One that fell had been left out of the totals, and came back.
            risen_ns = one.wait_time_ns - before_ns if one.wait_time_ns >= before_ns else one.wait_time_ns
            pair = Pair(displayed.get(one.cgroup_id, OTHER), displayed.get(holder_id, OTHER))
            if risen_ns and pair != (OTHER, OTHER):
                fresh[pair] += risen_ns
        self._seen = seen
        return fresh
