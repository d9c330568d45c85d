# SPDX-License-Identifier: Apache-2.0
"""A web server with a log of its latencies, a client, and a batch job in bursts: web_server.py server|client|batch ...

`server CPU PORT LOG [SOCKET]` writes a line for each request: when it was sent and when its answer was ready, UTC ns.
It sends how many ms that took to the socket, by DogStatsD, with a tag `ready`; when it had done so is a third figure of
the line.
"""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from subprocess import DEVNULL, Popen

PROGRAM = Path(__file__)
WORK_SECONDS = 0.002
BETWEEN_SECONDS = 0.02
BURST_SECONDS, PERIOD_SECONDS = 0.3, 0.8


def free_port() -> int:
    """For a server."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def is_listening(port: int) -> bool:
    """Whether the server has begun."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition: Callable[[], bool]) -> None:
    """Without a CPU of its own: it would be in the way of those that are looked at."""
    while not condition():
        time.sleep(0.1)


@contextmanager
def asking(cpu: int, port: int) -> Iterator[None]:
    """A client asks all the time."""
    client = Popen([sys.executable, str(PROGRAM), "client", str(cpu), str(port)], stdout=DEVNULL, stderr=DEVNULL)
    try:
        yield
    finally:
        client.kill()
        client.wait()


def spin(clock_seconds: float, clock: int) -> None:
    end = time.clock_gettime(clock) + clock_seconds
    while time.clock_gettime(clock) < end:
        pass


def serve(port: str, log: str, path: str | None = None) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as measured, Path(log).open("w", buffering=1) as lines:

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                spin(WORK_SECONDS, time.CLOCK_THREAD_CPUTIME_ID)
                line = f"{self.path[1:]} {(ready := time.time_ns())}"
                if path is not None:
                    took_ms = (ready - int(self.path[1:])) / 1e6
                    measured.sendto(f"http.request:{took_ms!r}|ms|#ready:{ready}".encode(), path)
                    line += f" {time.time_ns()}"
                lines.write(f"{line}\n")
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                pass

        HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


def ask(port: str) -> None:
    while True:
        time.sleep(BETWEEN_SECONDS)
        connection = HTTPConnection("127.0.0.1", int(port), timeout=60)
        # What it itself waits for a CPU until then is no latency of the server.
        connection.connect()
        connection.request("GET", f"/{time.time_ns()}")
        connection.getresponse().read()
        connection.close()


def batch() -> None:
    """Of high priority, so that it has most of the CPU while it runs, whoever else is there."""
    os.nice(-15)
    # Where each session is a group of its own, the priority is the group's (sched(7), autogroup).
    autogroup = Path("/proc/self/autogroup")
    if autogroup.exists():
        autogroup.write_text("-15")
    while True:
        # All of them at the same time.
        time.sleep(PERIOD_SECONDS - time.time() % PERIOD_SECONDS)
        spin(BURST_SECONDS, time.CLOCK_MONOTONIC)


if __name__ == "__main__":
    role, cpu, *arguments = sys.argv[1:]
    os.sched_setaffinity(0, {int(cpu)})
    {"server": serve, "client": ask, "batch": batch}[role](*arguments)
