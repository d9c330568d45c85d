# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.errors import UsageError
from tracer.kernel.event_specs import COUNTER_COLUMNS, EventSpec, parse_event, parse_events


@pytest.mark.parametrize(
    ("text", "event_type", "config"),
    [
        ("cycles", 0, 0),
        ("cpu-cycles", 0, 0),
        ("instructions", 0, 1),
        ("cache-references", 0, 2),
        ("cache-misses", 0, 3),
        ("branches", 0, 4),
        ("branch-instructions", 0, 4),
        ("branch-misses", 0, 5),
        ("bus-cycles", 0, 6),
        ("stalled-cycles-frontend", 0, 7),
        ("stalled-cycles-backend", 0, 8),
        ("ref-cycles", 0, 9),
        ("L1-dcache-loads", 3, 0x000000),
        ("L1-dcache-load-misses", 3, 0x010000),
        ("L1-dcache-store-misses", 3, 0x010100),
        ("L1-icache-prefetch-misses", 3, 0x010201),
        ("LLC-loads", 3, 0x000002),
        ("LLC-load-misses", 3, 0x010002),
        ("LLC-stores", 3, 0x000102),
        ("LLC-store-misses", 3, 0x010102),
        ("LLC-prefetches", 3, 0x000202),
        ("dTLB-load-misses", 3, 0x010003),
        ("iTLB-load-misses", 3, 0x010004),
        ("branch-load-misses", 3, 0x010005),
        ("node-store-misses", 3, 0x010106),
        ("r412e", 4, 0x412E),
        ("rFFFFFFFFFFFFFFFF", 4, 2**64 - 1),
        ("software:cpu-clock", 1, 0),
        ("software:task-clock", 1, 1),
        ("software:page-faults", 1, 2),
        ("software:context-switches", 1, 3),
        ("software:cpu-migrations", 1, 4),
        ("software:minor-faults", 1, 5),
        ("software:major-faults", 1, 6),
        ("software:alignment-faults", 1, 7),
        ("software:emulation-faults", 1, 8),
        ("software:cgroup-switches", 1, 11),
    ],
)
def test_numbers_are_the_kernels(text: str, event_type: int, config: int) -> None:
    assert parse_event(f"llc_misses={text}") == EventSpec("llc_misses", text, event_type, config)


def test_case_does_not_matter_in_names_and_the_name_is_kept_as_perf_writes_it() -> None:
    assert parse_event("Cycles=llc-LOAD-misses").text == "LLC-load-misses"


@pytest.mark.parametrize("name", ["llc_misses", "llc-misses", "cache-misses", "cache_misses", " LLC_misses "])
def test_a_column_has_aliases(name: str) -> None:
    assert parse_event(f"{name}=branches").column == "llc_misses"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("", "wants NAME=SPEC"),
        ("cycles", "wants NAME=SPEC"),
        ("cycles=", "wants NAME=SPEC"),
        ("=cycles", "wants NAME=SPEC"),
        ("cpu_time=cycles", "there are cycles, instructions, llc_misses"),
        ("cycles=LLC-load-mises", "did you mean 'LLC-load-misses'"),
        ("cycles=cpu-clock", "did you mean 'software:cpu-clock'"),
        ("cycles=context-switches", "did you mean 'software:context-switches'"),
        ("cycles=software:cycles", "no event 'software:cycles'"),
        ("cycles=software:dummy", "no event 'software:dummy'"),
        ("cycles=iTLB-stores", "no event 'iTLB-stores'"),
        ("cycles=r", "accepted: "),
        ("cycles=r0x12", "accepted: "),
        ("cycles=r10000000000000000", "accepted: "),
        ("cycles=a\nb", r"no event 'a\\nb'"),
    ],
)
def test_a_wrong_option_says_what_is_right_in_one_line(option: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_event(option)
    assert "\n" not in str(caught.value)


@given(st.text(), st.text())
def test_any_text_is_an_event_or_a_usage_error(column: str, text: str) -> None:
    try:
        spec = parse_event(f"{column}={text}")
    except UsageError:
        return
    assert spec.column in COUNTER_COLUMNS


@given(st.integers(0, 2**64 - 1))
def test_raw_codes_are_hexadecimal(config: int) -> None:
    assert parse_event(f"cycles=r{config:x}").config == config


def test_defaults() -> None:
    assert [(spec.column, spec.text) for spec in parse_events([])] == [
        ("cycles", "cycles"),
        ("instructions", "instructions"),
        ("llc_misses", "cache-misses"),
    ]


def test_options_replace_defaults_and_the_order_of_columns_stays() -> None:
    specs = parse_events(["llc-misses=LLC-load-misses", "cycles=software:cpu-clock"])
    assert tuple(spec.column for spec in specs) == COUNTER_COLUMNS
    assert [spec.text for spec in specs] == ["software:cpu-clock", "instructions", "LLC-load-misses"]


def test_a_column_given_twice_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="llc_misses is given twice, as LLC-loads and cache-misses"):
        parse_events(["llc_misses=LLC-loads", "cache-misses=cache-misses"])
