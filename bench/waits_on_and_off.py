# SPDX-License-Identifier: Apache-2.0
"""What `--waits on` costs whoever runs on the node, against `--waits off`: a web server, and a compiler.

    python bench/waits_on_and_off.py [PAIRS]

On each CPU one load works without a pause: HTTP requests to a server on the same CPU over a connection that stays
open (two switches and two wake-ups each), or a C compiler. Beside it the tracer runs, in pairs of one run with waits
and one without, in random order. What is compared within a pair is how much was done in the same number of seconds, so
that the tracer's own work counts too. Printed with the spread of the pairs, without which 1 % says nothing.

Needs root and a C compiler.
"""

import ctypes
import http.client
import http.server
import mmap
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from _common import need_root, print_machine, print_mark

from tracer.kernel.cpus import online_cpus
from tracer.kernel.loader import programs_directory

HERE = Path(__file__).parent
TRACER = [sys.executable, "-m", "tracer.cli.main"]
# The first seconds of a run compile and touch memory for the first time, which `--waits` has no part in.
SETTLING_SECONDS = 5
MEASURED_SECONDS = 8
PR_SET_PDEATHSIG = 1


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b"x" * 2_000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_parts: object) -> None:
        pass


def request(count: memoryview) -> None:
    """Asks a server of its own, again and again, and counts the answers."""
    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    if not os.fork():
        die_with_parent()
        server.serve_forever()
    connection = http.client.HTTPConnection(*server.server_address[:2])
    while True:
        connection.request("GET", "/")
        connection.getresponse().read()
        count[0] += 1


def compile_files(count: memoryview) -> None:
    """Compiles one file again and again."""
    headers = f"-I{programs_directory()}"
    command = ["cc", "-O1", headers, "-c", str(HERE / "libbpf_drain.c"), "-o", "/dev/null"]
    while True:
        subprocess.run(command, check=True)
        count[0] += 1


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(load: Callable[[memoryview], None], cpus: Sequence[int]) -> tuple[list[int], list[memoryview]]:
    """A process with that load on each of the CPUs, and what each has done so far."""
    pids, counts = [], []
    for cpu in cpus:
        count = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
        pid = os.fork()
        if not pid:
            die_with_parent()
            os.sched_setaffinity(0, {cpu})
            try:
                load(count)
            finally:
                os._exit(1)
        pids.append(pid)
        counts.append(count)
    return pids, counts


def done_beside(waits: str, counts: Sequence[memoryview]) -> int:
    """How much the loads did in MEASURED_SECONDS while a tracer ran."""
    with tempfile.TemporaryDirectory() as directory:
        seconds = SETTLING_SECONDS + MEASURED_SECONDS + 2
        command = [*TRACER, "run", "--waits", waits, "--duration", f"{seconds}s", "--output", directory]
        tracer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(SETTLING_SECONDS)
        before = sum(count[0] for count in counts)
        time.sleep(MEASURED_SECONDS)
        after = sum(count[0] for count in counts)
        if tracer.wait():
            sys.exit("the tracer failed")
    return after - before


def cost(load: Callable[[memoryview], None], pairs: int) -> list[float]:
    """By pair, how much less was done with waits, as a share."""
    pids, counts = start(load, sorted(online_cpus()))
    shares = []
    try:
        for _pair in range(pairs):
            order = random.sample(("on", "off"), 2)
            done = {waits: done_beside(waits, counts) for waits in order}
            shares.append(1 - done["on"] / done["off"])
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return shares


def main() -> None:
    need_root()
    print_machine()
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    for name, load in (("web server", request), ("compiler", compile_files)):
        shares = cost(load, pairs)
        error = statistics.stdev(shares) / pairs**0.5
        print(f"{name}: " + ", ".join(f"{share:+.1%}" for share in shares) + f" less done; mean +- {error:.1%}")
        print_mark(f"waits on against off, {name}, % less done", 100 * statistics.mean(shares), at_most=1)


if __name__ == "__main__":
    main()
