# SPDX-License-Identifier: Apache-2.0
"""What the series of each container have come to, and which containers have series of their own.

A series only rises: it is the sum of what was added between one look and the next by whoever it stood for then. Who has
no place of its own, and what comes of one that is long gone, is added to `OTHER`. So all series together have risen by
what the totals have, however containers come, go, are renamed or share a name.
"""

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

from tracer.live.metrics.slots import Slots
from tracer.live.snapshot import Amounts, CgroupTotals, Snapshot
from tracer.printable import printable

LONGEST_LABEL: Final = 253
"""Kubernetes' own bound on names."""
FORGOTTEN_SECONDS: Final = 300.0
_SETTLED_NS: Final = 3_000_000_000
"""A row may wait so long for its container's names."""


class Labels(NamedTuple):
    """Whose series; what has no namespace or pod has an empty one, which to Prometheus is a label that is missing."""

    namespace: str
    pod: str
    container: str


OTHER: Final = Labels("", "", "other")
SYSTEM: Final = Labels("", "", "system")
UNNAMED: Final = Labels("", "", "unnamed")
_RESERVED: Final = (OTHER, SYSTEM, UNNAMED)

Values = tuple[int | None, ...]

AMOUNTS: Final = (
    "cpu_time_ns", "cycles", "instructions", "llc_misses", "context_switches", "wait_behind_others_ns",
    "wait_behind_self_ns", "wait_throttled_ns", "wait_idle_ns", "wait_unknown_ns", "stolen_time_ns", "mbm_total_bytes",
)  # fmt: skip
"""What a ledger adds up: amounts of a snapshot, and `wait_unknown_ns`, the rest of the time that was waited."""
CPU_TIME: Final = AMOUNTS.index("cpu_time_ns")
WAIT_BEHIND_OTHERS: Final = AMOUNTS.index("wait_behind_others_ns")
_OF_WAITING: Final = ("wait_behind_others_ns", "wait_behind_self_ns", "wait_throttled_ns", "wait_idle_ns")
_NOTHING: Final[Values] = (None,) * len(AMOUNTS)


class Account:
    """One set of labels: what its series show, and how much of late."""

    def __init__(self) -> None:
        self.shown: Values = _NOTHING
        self.fresh: Values = _NOTHING
        """Since the last look."""
        self.weight = 0.0
        self.is_alive = False
        self.is_settled = True
        """Nothing more comes of any that is gone."""
        self.is_over = False
        """It was shown with its last value."""
        self._exact: Values = _NOTHING
        self._before: Values = _NOTHING

    @property
    def waited_ns(self) -> int:
        """By how much the time behind others rose that is shown."""
        return (self.shown[WAIT_BEHIND_OTHERS] or 0) - (self._before[WAIT_BEHIND_OTHERS] or 0)

    def begin(self, remembered: float) -> None:
        """A new look. Who loses a place keeps what was shown, and goes on from there with another one."""
        self.fresh, self.weight, self._before = _NOTHING, self.weight * remembered, self.shown
        self.is_alive, self.is_settled = False, True

    def add(self, amounts: Values) -> None:
        """What came of one of those that it stands for."""
        self.fresh = _added(self.fresh, amounts)
        self.weight += (amounts[CPU_TIME] or 0) + (amounts[WAIT_BEHIND_OTHERS] or 0)

    def show(self, amounts: Values) -> None:
        """Adds to what is shown. A part that fell, as stolen time can by a little, shows when it has risen again."""
        self._exact = _added(self._exact, amounts)
        self.shown = tuple(
            exact if exact is None else max(exact, before or 0)
            for exact, before in zip(self._exact, self.shown, strict=True)
        )


class Ledger:
    """Of one run; one thread uses it."""

    def __init__(self, most_containers: int) -> None:
        self.evictions = 0
        """How often a container lost its place to another one."""
        self.accounts: dict[Labels, Account] = {OTHER: Account(), SYSTEM: Account()}
        self.displayed: dict[int, Labels] = {}
        """By cgroup, as whom it is shown at this look."""
        self._slots: Slots[Labels] = Slots(most_containers)
        self._seen: dict[int, Values] = {}
        self._seen_others: Values = _NOTHING
        self._over: set[int] = set()
        self._time_ns = 0

    def look(self, snapshot: Snapshot) -> None:
        """Takes what has come since the last look."""
        now_ns = max(snapshot.time_ns or 0, self._time_ns)
        remembered = math.exp((self._time_ns - now_ns) / 1e9 / FORGOTTEN_SECONDS)
        self._time_ns = now_ns
        for account in self.accounts.values():
            account.begin(remembered)
        labels_by_cgroup = self._add(snapshot, now_ns)
        for labels in [labels for labels, account in self.accounts.items() if account.is_over]:
            del self.accounts[labels]
        self._give_places()
        self._over |= {
            cgroup_id
            for cgroup_id, labels in labels_by_cgroup.items()
            if labels in self.accounts and self.accounts[labels].is_over
        }
        self.displayed = {
            cgroup_id: labels if labels == SYSTEM or labels in self._slots.taken else OTHER
            for cgroup_id, labels in labels_by_cgroup.items()
        }

    def shown(self) -> Iterator[tuple[Labels, Values]]:
        """The values of each set of labels that has series."""
        for labels, account in self.accounts.items():
            if labels in (OTHER, SYSTEM) or labels in self._slots.taken:
                yield labels, account.shown

    @property
    def containers_shown(self) -> int:
        """How many sets of labels of containers have series of their own."""
        return len(self._slots.taken)

    @property
    def containers_hidden(self) -> int:
        """How many have not."""
        return len(self.accounts) - len(self._slots.taken) - len((OTHER, SYSTEM))

    def _add(self, snapshot: Snapshot, now_ns: int) -> dict[int, Labels]:
        labels_by_cgroup: dict[int, Labels] = {}
        seen: dict[int, Values] = {}
        gone = _NOTHING
        for cgroup in snapshot.cgroups:
            if cgroup.cgroup_kind == "idle":
                continue
            amounts = values_of(cgroup)
            before = self._seen.pop(cgroup.cgroup_id, _NOTHING)
            if (amounts[CPU_TIME] or 0) < (before[CPU_TIME] or 0):
                # It had gone to the totals' others, and came back.
                gone, before = _added(gone, before), _NOTHING
            seen[cgroup.cgroup_id] = amounts
            labels = OTHER if cgroup.cgroup_id in self._over else labels_of(cgroup)
            account = self.accounts.setdefault(labels, Account())
            account.add(_differences(amounts, before))
            account.is_over = False
            account.is_alive |= cgroup.removed_ns is None
            account.is_settled &= cgroup.removed_ns is None or cgroup.removed_ns + _SETTLED_NS <= now_ns
            labels_by_cgroup[cgroup.cgroup_id] = labels
        self._over &= seen.keys()
        # Those that the totals do not list any more are among its others, with what has come of them since.
        for amounts in self._seen.values():
            gone = _added(gone, amounts)
        others = values_of(snapshot.others)
        self.accounts[OTHER].add(_differences(_differences(others, self._seen_others), gone))
        self._seen, self._seen_others = seen, others
        return labels_by_cgroup

    def _give_places(self) -> None:
        of_containers = {labels: account for labels, account in self.accounts.items() if labels not in (OTHER, SYSTEM)}
        taken = self._slots.taken
        put_out = self._slots.choose(
            # Who is gone takes nobody's place.
            {
                labels: account.weight if account.is_alive or labels in taken else 0.0
                for labels, account in of_containers.items()
            }
        )
        self.evictions += len(put_out)
        others = self.accounts[OTHER]
        for labels, account in of_containers.items():
            is_shown = labels in taken
            (account if is_shown else others).show(account.fresh)
            account.is_over = not account.is_alive and (account.is_settled or not is_shown)
        for account in (others, self.accounts[SYSTEM]):
            account.show(account.fresh)


def labels_of(cgroup: CgroupTotals) -> Labels:
    """Names alone, harmless and of a length that can be borne; what is no container is `SYSTEM`."""
    if cgroup.cgroup_kind == "unknown":
        return OTHER
    if cgroup.cgroup_kind != "container":
        return SYSTEM
    if not cgroup.container_name and not cgroup.pod_name:
        return UNNAMED
    labels = Labels(_label(cgroup.namespace), _label(cgroup.pod_name), _label(cgroup.container_name))
    return labels if labels not in _RESERVED else labels._replace(container=f"{labels.container} (container)")


def values_of(amounts: Amounts) -> Values:
    """In the order of AMOUNTS."""
    known = [getattr(amounts, name) for name in _OF_WAITING]
    unknown = None if amounts.wait_time_ns is None else max(0, amounts.wait_time_ns - sum(one or 0 for one in known))
    return tuple(unknown if name == "wait_unknown_ns" else getattr(amounts, name) for name in AMOUNTS)


def _label(name: str | None) -> str:
    text = printable((name or "").encode("utf-8", "surrogatepass")[: 8 * LONGEST_LABEL])
    if len(text) <= LONGEST_LABEL:
        return text
    half = LONGEST_LABEL // 2
    return f"{text[:half]}…{text[-half:]}"


def _added(one: Values, other: Values) -> Values:
    return tuple(b if a is None else a if b is None else a + b for a, b in zip(one, other, strict=True))


def _differences(now: Values, before: Values) -> Values:
    return tuple(a if b is None else (a or 0) - b for a, b in zip(now, before, strict=True))
