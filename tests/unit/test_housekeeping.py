# SPDX-License-Identifier: Apache-2.0
"""Duties of a run: each at its interval, whatever another one does; one that fails ends the run."""

import threading

from tracer.pipeline.housekeeping.keeping import Duty, Housekeeping


def test_each_duty_is_done_again_and_again_and_then_ended() -> None:
    done: list[str] = []
    often = threading.Semaphore(0)

    def seldom(_now_ns: int) -> None:
        done.append("seldom")

    housekeeping = Housekeeping(
        [
            Duty(1_000_000, lambda _now_ns: often.release(), end=lambda _now_ns: done.append("first end")),
            Duty(3_600 * 10**9, seldom, end=lambda _now_ns: done.append("second end")),
        ],
        threading.Event(),
    )
    housekeeping.start()
    for _ in range(3):
        assert often.acquire(timeout=30)
    housekeeping.finish()
    housekeeping.join(30)
    assert not housekeeping.is_alive()
    assert done == ["first end", "second end"]
    assert housekeeping.failure is None


def test_a_duty_that_fails_ends_the_run_and_not_the_others() -> None:
    stop_run, others = threading.Event(), threading.Semaphore(0)

    def fail(_now_ns: int) -> None:
        raise ValueError("no such CPU")

    housekeeping = Housekeeping([Duty(1, fail, end=fail), Duty(1, lambda _now_ns: others.release())], stop_run)
    housekeeping.start()
    assert stop_run.wait(30)
    for _ in range(3):
        assert others.acquire(timeout=30)
    housekeeping.finish()
    housekeeping.join(30)
    assert "housekeeping failed, which is a defect of the tracer: ValueError('no such CPU')" in str(
        housekeeping.failure
    )
