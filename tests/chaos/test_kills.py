# SPDX-License-Identifier: Apache-2.0
"""Tracers killed at random moments and in the midst of what they write, on the live kernel.

`make chaos` kills 200; `make test` a few. Three at a time write to one output, so that each is killed beside others
that live, and each recovery finds runs that it must leave alone.
"""

from pathlib import Path
from statistics import quantiles

import pyarrow.parquet as pq
import pytest
from killing import BUSY, Account, Kill, Slot
from live_node import Cgroup
from store_examples import files_below

from tracer.store.layout import IN_PROGRESS
from tracer.store.manifest import read_manifest
from tracer.store.recovery import recover

pytestmark = pytest.mark.root

_SLOTS = 3
_A_FEW = 3


def test_killed_tracers_lose_a_second_and_nothing_twice(
    request: pytest.FixtureRequest, tmp_path: Path, own_cgroup: Path
) -> None:
    kills = request.config.getoption("--kills") or _A_FEW
    # No container, whose rows would wait for its names.
    cgroup = Cgroup(own_cgroup / "busy")
    cgroup.start(BUSY)
    account = Account(cgroup, tmp_path / "account")
    output = tmp_path / "results"
    slots = [
        Slot(f"slot-{number}", output, account, cgroup, len(range(number, kills, _SLOTS))) for number in range(_SLOTS)
    ]
    for slot in slots:
        slot.start()
    for slot in slots:
        slot.join()
    account.end()
    cgroup.stop()
    print_table([kill for slot in slots for kill in slot.kills])
    for slot in slots:
        if slot.failure is not None:
            raise slot.failure
    assert recover(output).runs == []
    before = {name: (output / name).read_bytes() for name in files_below(output)}
    assert not [name for name in before if name.endswith((IN_PROGRESS, ".journal", ".damaged"))]
    for name in before:
        if name.endswith(".parquet"):
            pq.ParquetFile(output / name).read()
    assert all(read_manifest(path).status == "crashed" for path in output.glob("runs/*/session.json"))
    recover(output)
    assert {name: (output / name).read_bytes() for name in files_below(output)} == before
    # Where the node gives it no CPU, no tracer writes.
    assert max(kill.missing_ns - kill.starved_ns for slot in slots for kill in slot.kills) < 10**9


def print_table(kills: list[Kill]) -> None:
    print(f"\n{'killed':16} {'kills':>5} {'missing ms: median':>19} {'most':>6} {'compared s':>11} {'worst error':>12}")
    for how in sorted({kill.how.split()[0] for kill in kills}):
        of = [kill for kill in kills if kill.how.split()[0] == how]
        missing = [kill.missing_ns / 1e6 for kill in of if kill.missing_ns]
        median = quantiles(missing, n=2)[0] if len(missing) > 1 else sum(missing)
        compared = sum(kill.compared_ns for kill in of) / 1e9
        worst = max((abs(kill.error) for kill in of if kill.compared_ns > 10**9), default=0.0)
        most = max(missing, default=0.0)
        print(f"{how:16} {len(of):5} {median:19.0f} {most:6.0f} {compared:11.1f} {worst:12.2%}")
    print(f"{len(kills)} kills of tracers, {sum(kill.recoveries_killed for kill in kills)} of recoveries")
