# SPDX-License-Identifier: Apache-2.0
"""How long a container runtime waits for the plug-in's reply while containers start as fast as they can be told of.

    python bench/nri_reply.py [REQUESTS]

The runtime is another process, which takes the time from the last byte of a request sent to the reply read, and has one
request under way as containerd does, or eight. The requests are those of containers that start, run and stop, each of
some 3 kB, mostly arguments and environment as with a real runtime. Meanwhile a thread takes the events. The floor is a
thread of the same Python that sends the reply for whatever it reads. `busy` is the plug-in beside a thread that never
lets go of the interpreter of its own accord.
"""

import contextlib
import multiprocessing
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue

from _common import print_machine, print_mark

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from nri_fake_runtime import FakeRuntime, RuntimeConnection, container, pod, request

from tracer.containers.nri import messages_pb2 as messages
from tracer.containers.nri.events import Event
from tracer.containers.nri.plugin import NriPlugin

REQUESTS = 20_000
CONTAINERS = 100
UNDER_WAY = (1, 8)
REPLY_BYTES = 18


def state_changes() -> list[bytes]:
    """The payloads of all that containers go through."""
    payloads = []
    for number in range(CONTAINERS):
        of_pod = pod(number)
        told = container(number, of_pod)
        # Field 8: the environment.
        told.MergeFromString(b"\x42\x80\x14" + b"V" * 2560)
        for event in (messages.START_CONTAINER, messages.POST_START_CONTAINER, messages.STOP_CONTAINER):
            change = messages.StateChangeEvent(event=event, pod=of_pod, container=told)
            payloads.append(change.SerializeToString())
    return payloads


def reply_times_us(connection: RuntimeConnection, requests: int, under_way: int) -> list[float]:
    """Keeps so many requests under way; microseconds of each."""
    payloads = state_changes()
    framed = [request(2 * number + 1001, "StateChange", payloads[number % len(payloads)]) for number in range(requests)]
    sent_ns: list[int] = []
    times = []
    for number in range(requests):
        while len(sent_ns) < min(number + under_way, requests):
            connection.send(framed[len(sent_ns)])
            sent_ns.append(time.perf_counter_ns())
        connection.receive(REPLY_BYTES)
        times.append((time.perf_counter_ns() - sent_ns[number]) / 1e3)
    return times


def play_runtime(path: Path, parent: Connection) -> None:
    """The runtime's process. For each order (let the peer in?, requests, under way) it takes one connection."""
    with FakeRuntime(path) as runtime:
        parent.send(None)
        while order := parent.recv():
            is_plugin, requests, under_way = order
            with runtime.accept() as connection:
                if is_plugin:
                    connection.let_in()
                parent.send(reply_times_us(connection, requests, under_way))


def reply_to_anything(path: Path) -> None:
    """The floor."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(path))
        while connection.recv(1 << 16):
            connection.sendall(bytes(REPLY_BYTES))


@contextlib.contextmanager
def running(target: Callable[..., None], *arguments: object) -> Iterator[threading.Thread]:
    """A thread while the block runs; something in the block has to end it."""
    thread = threading.Thread(target=target, args=arguments)
    thread.start()
    yield thread
    thread.join()


def take_events(events: "SimpleQueue[Event | None]") -> None:
    while events.get() is not None:
        pass


def keep_busy(stop: threading.Event) -> None:
    while not stop.is_set():
        sum(range(1000))


def ask(runtime: Connection, path: Path, requests: int, under_way: int) -> list[float]:
    """Reply times of the plug-in."""
    runtime.send((True, requests, under_way))
    events: SimpleQueue[Event | None] = SimpleQueue()
    plugin = NriPlugin(path, events)  # type: ignore[arg-type]
    with running(take_events, events):
        plugin.start()
        times = runtime.recv()
        plugin.close()
        events.put(None)
    assert (plugin.dropped, plugin.undecoded) == (0, 0)
    return times


def ask_floor(runtime: Connection, path: Path, requests: int) -> list[float]:
    """Reply times of a thread that does nothing else."""
    runtime.send((False, requests, 1))
    with running(reply_to_anything, path):
        return runtime.recv()


def ask_busy(runtime: Connection, path: Path, requests: int) -> list[float]:
    """Reply times of the plug-in where another thread computes without a pause."""
    stop = threading.Event()
    with running(keep_busy, stop):
        try:
            return ask(runtime, path, requests, 1)
        finally:
            stop.set()


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[-1]


def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS
    print_machine()
    spawn = multiprocessing.get_context("spawn")
    runtime, child = spawn.Pipe()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "nri.sock"
        process = spawn.Process(target=play_runtime, args=(path, child))
        process.start()
        runtime.recv()
        results = {
            "floor": ask_floor(runtime, path, requests),
            "one under way": ask(runtime, path, requests, 1),
            "eight under way": ask(runtime, path, requests, 8),
            "one, busy": ask_busy(runtime, path, requests // 20),
        }
        runtime.send(None)
        process.join()
    print(f"{'us from request to reply':24} {'p50':>9} {'p99':>9} {'max':>9}")
    for name, times in results.items():
        print(f"{name:24} {statistics.median(times):9.1f} {p99(times):9.1f} {max(times):9.1f}")
    ratio = statistics.median(results["one under way"]) / statistics.median(results["floor"])
    print(f"plug-in to floor, p50: {ratio:.2f}")
    for name in ("one under way", "eight under way"):
        print_mark(f"reply p99, ms, {name}", p99(results[name]) / 1e3, at_most=1)


if __name__ == "__main__":
    main()
