# SPDX-License-Identifier: Apache-2.0
import pytest

from tracer.kernel.event_specs import parse_event, parse_events
from tracer.preflight.checks import Status
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
        (MS, 1000, "ok"),
        (MS, 999, "warning"),
        (MS // 2, 1000, "warning"),
        (100 * MS, 10, "ok"),
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


def test_an_event_says_what_it_is_or_why_it_is_missing() -> None:
    spec = parse_event("llc_misses=r412e")
    assert judge_event(spec, None) == ("ok", "r412e (type 4, config 0x412e)", None)
    missing = judge_event(spec, "the PMU cannot count it (EOPNOTSUPP)")
    assert missing[:2] == ("warning", "r412e: the PMU cannot count it (EOPNOTSUPP)")
    assert "--event llc_misses=SPEC" in (missing.remedy or "")
    limited = judge_event(spec, "the process may open only 10 files; raise the limit (EMFILE)")
    assert limited == ("warning", "r412e: the process may open only 10 files", "raise the limit (EMFILE)")


def test_events_that_take_turns_are_a_limit() -> None:
    assert judge_group(counted=0, grouped=True).status == "info"
    assert judge_group(counted=2, grouped=True).status == "ok"
    assert judge_group(counted=3, grouped=False).status == "warning"
