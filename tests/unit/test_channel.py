# SPDX-License-Identifier: Apache-2.0
"""Nobody waits for ever at a channel: whichever side ends, the other goes on."""

import threading

import pytest

from tracer.pipeline.channel import Channel
from tracer.pipeline.stage import Stage, StuckError, await_end


def in_thread(work: threading.Thread) -> None:
    """The thread has ended, in far more than the time that takes."""
    work.join(30)
    assert not work.is_alive()


def test_items_come_in_order_and_then_none() -> None:
    channel: Channel[int] = Channel(3)
    assert all(channel.put(item) for item in (1, 2, 3))
    channel.close()
    assert [channel.take() for _ in range(4)] == [1, 2, 3, None]
    assert channel.put(4) is False


def test_a_full_channel_makes_who_puts_wait() -> None:
    channel: Channel[int] = Channel(1)
    channel.put(1)
    put = threading.Thread(target=channel.put, args=(2,))
    put.start()
    assert channel.take() == 1
    assert channel.take() == 2
    in_thread(put)


def test_offering_never_waits() -> None:
    channel: Channel[str] = Channel(5, size=len)
    assert channel.offer("four")
    # There is some room, and an item is not divided.
    assert channel.offer("much more than that")
    assert not channel.offer("")
    assert [channel.take(), channel.take()] == ["four", "much more than that"]
    assert channel.offer("again")
    channel.close()
    assert not channel.offer("late")


def test_an_empty_one_makes_who_takes_wait() -> None:
    channel: Channel[int] = Channel(1)
    with pytest.raises(TimeoutError):
        channel.take(0.01)
    took: list[int | None] = []
    take = threading.Thread(target=lambda: took.append(channel.take()))
    take.start()
    channel.put(7)
    in_thread(take)
    assert took == [7]


def test_who_puts_does_not_wait_for_who_is_gone() -> None:
    channel: Channel[int] = Channel(1)
    channel.put(1)
    answers: list[bool] = []
    put = threading.Thread(target=lambda: answers.append(channel.put(2)))
    put.start()
    assert channel.abandon() == [1]
    in_thread(put)
    assert answers == [False]
    assert channel.put(3) is False
    assert channel.take() is None


def test_who_takes_does_not_wait_for_who_is_gone() -> None:
    channel: Channel[int] = Channel(1)
    took: list[int | None] = []
    take = threading.Thread(target=lambda: took.append(channel.take()))
    take.start()
    channel.close()
    in_thread(take)
    assert took == [None]


class Failing(Stage):
    """Fails twice, and goes on after the first."""

    def work(self) -> None:
        with self.surviving():
            raise ValueError("first")
        raise ValueError("second")

    def end(self) -> None:
        self.ended = True


def test_a_stage_keeps_its_first_failure_and_always_ends() -> None:
    stop = threading.Event()
    stage = Failing("painting", stop)
    stage.start()
    assert await_end([stage], 30) == []
    assert stage.ended
    assert stop.is_set()
    assert str(stage.failure) == "painting failed, which is a defect of the tracer: ValueError('first')"


def test_threads_that_do_not_end_are_named() -> None:
    go_on = threading.Event()
    stuck = threading.Thread(target=go_on.wait, name="tracer-painting")
    stuck.start()
    try:
        names = await_end([stuck], 0.01)
        assert names == ["painting"]
        assert "stuck in painting" in str(StuckError(names))
    finally:
        go_on.set()
        stuck.join()
