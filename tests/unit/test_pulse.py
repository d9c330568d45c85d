# SPDX-License-Identifier: Apache-2.0
"""The rule of readiness: programs attached, and ticks seen within the last second."""

from tracer.live.pulse import LONGEST_PAUSE_NS, Pulse


def test_ready_is_attached_and_ticks_within_the_last_second() -> None:
    now_ns = 5 * 10**9
    pulse = Pulse(lambda: now_ns)
    assert pulse.what_is_missing() == "the programs are not attached"
    pulse.see_ticks()
    assert pulse.what_is_missing() == "the programs are not attached"
    pulse = Pulse(lambda: now_ns)
    pulse.attach()
    assert pulse.what_is_missing() == "no tick was seen yet"
    pulse.see_ticks()
    now_ns += LONGEST_PAUSE_NS
    assert pulse.what_is_missing() is None
    now_ns += 1
    assert pulse.what_is_missing() == "no tick was seen for 1.0 s"
    pulse.see_ticks()
    assert pulse.what_is_missing() is None
    pulse.detach()
    assert pulse.what_is_missing() == "the programs are not attached"
