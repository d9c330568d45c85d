# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.readers.resctrl.ownership import Owner, is_dead, is_of_container, owner_of, this_process
from tracer.readers.resctrl.values import Traffic, TrafficMeter, parse_value

CONTAINER = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (b"0\n", 0),
        (b"1536320\n", 1536320),
        (b"18446744073709551615\n", 2**64 - 1),
        (b"18446744073709551616\n", "malformed"),
        (b"Unavailable\n", "Unavailable"),
        (b"Error\n", "Error"),
        (b"Unassigned\n", "Unassigned"),
        (b"", "malformed"),
        (b"-1\n", "malformed"),
        (b"1536320 Unavailable\n", "malformed"),
        ("٣".encode(), "malformed"),
    ],
)
def test_a_file_holds_a_number_or_says_why_not(text: bytes, meaning: object) -> None:
    assert parse_value(text) == meaning


@given(st.binary(max_size=64))
def test_whatever_a_file_holds_is_a_number_of_64_bits_or_a_reason(text: bytes) -> None:
    value = parse_value(text)
    assert isinstance(value, str) or 0 <= value < 2**64


def test_a_new_groups_counter_began_at_zero() -> None:
    meter = TrafficMeter(began_ns=100)
    assert meter.advance(7, 1100) == Traffic(7, 1000)
    assert meter.advance(10, 2100) == Traffic(3, 1000)


def test_the_first_reading_of_somebody_elses_counter_gives_nothing() -> None:
    meter = TrafficMeter()
    assert meter.advance(7, 1000) is None
    assert meter.advance(7, 2000) == Traffic(0, 1000)


@pytest.mark.parametrize("missing", ["Unavailable", "Error", "malformed"])
def test_a_value_out_of_reach_for_a_while_is_made_good_with_the_time_it_took(missing: str) -> None:
    meter = TrafficMeter(began_ns=0)
    meter.advance(100, 1000)
    assert meter.advance(missing, 2000) is None  # type: ignore[arg-type]
    assert meter.advance(160, 3000) == Traffic(60, 2000)


@pytest.mark.parametrize("missing", ["Unassigned", "gone"])
def test_a_counter_that_began_anew_is_not_held_against_the_old_one(missing: str) -> None:
    meter = TrafficMeter(began_ns=0)
    meter.advance(100, 1000)
    assert meter.advance(missing, 2000) is None  # type: ignore[arg-type]
    assert meter.advance(160, 3000) is None
    assert meter.advance(170, 4000) == Traffic(10, 1000)


def test_a_counter_that_fell_began_anew() -> None:
    meter = TrafficMeter(began_ns=0)
    meter.advance(100, 1000)
    assert meter.advance(20, 2000) is None
    assert meter.advance(50, 3000) == Traffic(30, 1000)


@given(
    st.lists(
        st.tuples(st.integers(0, 1 << 40), st.sampled_from(["read", "Unavailable", "Unassigned", "restart"])),
        max_size=50,
    )
)
def test_what_is_told_never_exceeds_what_was_counted(steps: list[tuple[int, str]]) -> None:
    meter = TrafficMeter(began_ns=0)
    counter = counted = told = time_ns = time_told_ns = 0
    for amount, what in steps:
        time_ns += 1000
        if what == "restart":
            # Restarts that the kernel does not show are those that raise the counter again past where it was.
            counter = min(amount, counter - 1) if counter else 0
            counted += counter
        else:
            counter += amount
            counted += amount
        value = counter if what in ("read", "restart") else what
        if (traffic := meter.advance(value, time_ns)) is not None:  # type: ignore[arg-type]
            told += traffic.bytes
            time_told_ns += traffic.interval_ns
    assert told <= counted
    assert time_told_ns <= time_ns


def test_a_groups_name_says_who_made_it_and_for_whom() -> None:
    own = this_process()
    name = own.group_name(CONTAINER)
    assert owner_of(name) == own
    assert is_of_container(name, CONTAINER)
    assert not is_of_container(name, CONTAINER[1:] + "0")
    assert len(name) < 255
    assert not is_dead(own, own)


@pytest.mark.parametrize(
    "container", ["/lxc.payload.web", "demo-service", "e95a40efbde84cbc8600660a109ec194-1", "\udcff"]
)
def test_an_id_that_is_no_number_has_a_group_of_its_own(container: str) -> None:
    own = this_process()
    name = own.group_name(container)
    assert owner_of(name) == own
    assert is_of_container(name, container)
    assert not is_of_container(name, container + "2")
    assert own.group_name(container + "2") != name


@pytest.mark.parametrize(
    "name", ["", "trc-", "trc-1.2-0", "trc-1.2.3-", "trc-1.2.3-XYZ", "trc-a.2.3-0", CONTAINER, "pod_" + CONTAINER]
)
def test_other_names_are_nobodys(name: str) -> None:
    assert owner_of(name) is None
    assert not is_of_container(name, CONTAINER)


def test_an_owner_is_dead_when_its_pid_is_free_or_anothers() -> None:
    own = this_process()
    assert is_dead(own._replace(start_time=own.start_time + 1), own)
    assert is_dead(Owner(own.pid_namespace, 2**31 - 1, 1), own)


def test_nobody_can_tell_of_a_pid_in_another_namespace() -> None:
    own = this_process()
    assert not is_dead(Owner(own.pid_namespace + 1, 2**31 - 1, 1), own)
