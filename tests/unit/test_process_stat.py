# SPDX-License-Identifier: Apache-2.0
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.readers.process_stat import parse_stat

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def line(name: bytes = b"cat", state: bytes = b"R", address_space: int = 5_000_000, resident: int = 250) -> bytes:
    rest = b" 1 1 1 0 -1 4194304 100 0 0 0 7 3 0 0 20 0 2 0 9000 %d %d 18446744073709551615 1 1 0 0\n"
    return b"4711 (" + name + b") " + state + rest % (address_space, resident)


def test_fields() -> None:
    stat = parse_stat(line())
    assert stat is not None
    assert stat.has_memory
    assert (stat.comm, stat.threads, stat.start_boottime_ns) == ("cat", 2, 9000 * TICK_NS)
    assert (stat.cpu_user_ns, stat.cpu_system_ns, stat.rss_bytes) == (7 * TICK_NS, 3 * TICK_NS, 250 * PAGE)


@pytest.mark.parametrize(
    ("name", "comm"),
    [(b"a b) R (c", "a b) R (c"), (b"", ""), (b"\xff\x1b[2J", "\\xff\\x1b[2J"), (b"))))", "))))"), (b"((", "((")],
)
def test_names_may_hold_anything(name: bytes, comm: str) -> None:
    stat = parse_stat(line(name))
    assert stat is not None
    assert (stat.comm, stat.threads) == (comm, 2)


def test_kernel_threads_and_zombies_have_no_memory() -> None:
    for text in (line(address_space=0, resident=0), line(state=b"Z"), line(state=b"X")):
        stat = parse_stat(text)
        assert stat is not None
        assert not stat.has_memory


def test_of_the_live_kernel() -> None:
    stat = parse_stat(Path("/proc/self/stat").read_bytes())
    assert stat is not None
    assert stat.has_memory
    assert 0 < stat.start_boottime_ns < time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert stat.rss_bytes > 1 << 20


@given(st.one_of(st.binary(), st.integers(0, 120).map(lambda length: line()[:length])))
def test_a_text_that_is_not_whole_is_nothing(text: bytes) -> None:
    stat = parse_stat(text)
    assert stat is None or stat.comm.isprintable()
