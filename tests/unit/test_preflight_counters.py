# SPDX-License-Identifier: Apache-2.0
import pytest

from tracer.kernel.counter_plan import CounterPlan, CpuPlan, missing_everywhere
from tracer.kernel.event_specs import on_pmu, parse_event, parse_events
from tracer.preflight.checks import Finding, Status
from tracer.preflight.counters import (
    judge_event,
    judge_group,
    judge_paranoia,
    judge_pmu,
    judge_tick,
)
from tracer.preflight.node import CAP_PERFMON, CAP_SYS_ADMIN

MS = 1_000_000
SOFTWARE = [f"{name}=software:cpu-clock" for name in ("cycles", "instructions", "llc_misses")]


@pytest.mark.parametrize(
    ("tick_ns", "highest_rate", "status"),
    [
        (MS, 100_000, "ok"),
        (MS, 3000, "ok"),
        # With four samples a jiffy allowed and four asked for, the fourth is held up already.
        (MS, 1000, "warning"),
        (MS // 2, 3000, "warning"),
        (100 * MS, 30, "ok"),
        (MS, None, "ok"),
    ],
)
def test_a_tick_above_the_sample_rate_is_throttled(tick_ns: int, highest_rate: int | None, status: Status) -> None:
    assert judge_tick(tick_ns, highest_rate).status == status


@pytest.mark.parametrize(
    ("level", "capabilities", "status"),
    [
        (None, 0, "info"),
        (4, 1 << CAP_SYS_ADMIN, "ok"),
        (2, 1 << CAP_PERFMON, "ok"),
        (3, 1 << CAP_PERFMON, "warning"),
        (2, 0, "warning"),
        (1, 0, "warning"),
        (0, 0, "ok"),
        (-1, 0, "ok"),
    ],
)
def test_paranoia_matters_only_without_capabilities(level: int | None, capabilities: int, status: Status) -> None:
    assert judge_paranoia(level, capabilities).status == status


def test_a_pmu_is_missed_only_where_an_event_needs_it() -> None:
    assert judge_pmu(["cpu"], parse_events([]), watchdog=False) == ("ok", "cpu", None)
    assert "NMI watchdog" in judge_pmu(["cpu"], parse_events([]), watchdog=True).found
    assert judge_pmu([], parse_events([]), watchdog=False).status == "warning"
    assert judge_pmu([], parse_events(SOFTWARE), watchdog=False).status == "info"


def judged(option: str, **cpus: CpuPlan) -> Finding:
    """Of a plan with this event only; `cpu0=…` is the plan of a CPU."""
    by_cpu = {int(name.removeprefix("cpu")): plan for name, plan in cpus.items()}
    reason = missing_everywhere(plan.reasons[0] for plan in by_cpu.values())
    return judge_event(CounterPlan((parse_event(option),), (reason,), True, by_cpu), 0)


def cpu(option: str, reason: str | None = None, *, counted: bool = True, pmu: str | None = None) -> CpuPlan:
    return CpuPlan((parse_event(option),), (reason,), True, (counted,), pmu)


def test_an_event_says_what_it_is_or_why_it_is_missing() -> None:
    raw = "llc_misses=r412e"
    assert judged(raw, cpu0=cpu(raw), cpu1=cpu(raw)) == ("ok", "r412e (type 4, config 0x412e)", None)
    missing = judged(raw, cpu0=cpu(raw, "the PMU cannot count it (EOPNOTSUPP)"))
    assert missing[:2] == ("warning", "r412e: the PMU cannot count it (EOPNOTSUPP)")
    assert "--event llc_misses=SPEC" in (missing.remedy or "")
    limited = judged(raw, cpu0=cpu(raw, "the process may open only 10 files; raise the limit (EMFILE)"))
    assert limited == ("warning", "r412e: the process may open only 10 files", "raise the limit (EMFILE)")


def test_an_event_that_some_cpus_count_is_told_by_cpu() -> None:
    event = "cycles=cycles"
    found = judged(event, cpu0=cpu(event), cpu1=cpu(event, "somebody holds it (EBUSY)"), cpu2=cpu(event))
    assert found[:2] == (
        "warning",
        "cycles (type 0, config 0x0 on CPUs 0,2), not on CPUs 1: somebody holds it (EBUSY)",
    )
    assert "counter_coverage" in (found.remedy or "")


def test_each_kind_of_core_has_its_own_encoding() -> None:
    event = "cycles=cycles"
    core, atom = (
        CpuPlan((on_pmu(parse_event(event), type_),), (None,), True, (True,), name)
        for type_, name in ((4, "cpu_core"), (10, "cpu_atom"))
    )
    assert judged(event, cpu0=core, cpu1=core, cpu2=atom) == (
        "ok",
        "cycles (cpu_core, type 0, config 0x400000000 on CPUs 0-1, cpu_atom, type 0, config 0xa00000000 on CPUs 2)",
        None,
    )


def test_an_event_that_counts_nothing_is_a_warning() -> None:
    event = "llc_misses=cache-misses"
    found = judged(event, cpu0=cpu(event, counted=False), cpu1=cpu(event, counted=False))
    assert found[:2] == (
        "warning",
        "cache-misses (type 0, config 0x3) can be opened, but counted nothing in a short trial",
    )
    assert "null until it counts" in (found.remedy or "")
    # On an idle CPU there may have been none.
    assert judged(event, cpu0=cpu(event, counted=False), cpu1=cpu(event)).status == "ok"


def test_events_that_take_turns_are_a_limit() -> None:
    assert judge_group(counted=0, turns=[]).status == "info"
    assert judge_group(counted=2, turns=[]).status == "ok"
    assert judge_group(counted=3, turns=[0, 1, 2, 5])[:2] == (
        "warning",
        "the events take turns on CPUs 0-2,5, since the PMU has too few free counters",
    )
