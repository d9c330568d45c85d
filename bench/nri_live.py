# SPDX-License-Identifier: Apache-2.0
"""How long containerd waits for the whole tracer's replies over NRI while 100 pods start and end.

A process between the two forwards the bytes and takes the times: containerd has one request under way, so a reply
belongs to the request before it. Run it as root; it makes a containerd of its own, as tests/node/ does.
"""

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from _common import need_root, print_machine, print_mark

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "node")]

PODS = 100
AT_ONCE = 4

FORWARD = """
import os, select, socket, sys, time
# Its own turn on a CPU is not what is measured.
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("ready", flush=True)
plugin, _address = listener.accept()
runtime = socket.socket(socket.AF_UNIX)
runtime.connect(sys.argv[2])
asked = None
while True:
    for ready in select.select([plugin, runtime], [], [])[0]:
        data = ready.recv(1 << 20)
        if not data:
            sys.exit()
        now = time.perf_counter()
        if ready is runtime:
            plugin.sendall(data)
            asked = time.perf_counter()
        else:
            runtime.sendall(data)
            if asked is not None:
                print((now - asked) * 1e3, flush=True)
            asked = None
"""


def main() -> None:
    need_root()
    from containerd_node import ContainerdNode

    print_machine()
    waits: list[float] = []
    with tempfile.TemporaryDirectory() as name, ContainerdNode(Path(name) / "node") as node:
        between = Path(name) / "nri.sock"
        forwarder = subprocess.Popen(
            [sys.executable, "-c", FORWARD, between, node.nri_socket], stdout=subprocess.PIPE, text=True
        )
        assert forwarder.stdout is not None
        forwarder.stdout.readline()
        collector = threading.Thread(target=lambda: waits.extend(map(float, forwarder.stdout)), daemon=True)
        collector.start()
        tracer = subprocess.Popen(
            [sys.executable, "-m", "tracer.cli.main", "run", "--output", f"{name}/results", "--nri", str(between)],
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(5)
            registration = len(waits)

            def live(number: int) -> None:
                pod = node.run_pod(f"bench-{number}")
                try:
                    node.wait_for_exit(node.run_container(pod, "job", "true"))
                finally:
                    node.remove_pod(pod)

            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(live, range(PODS)))
        finally:
            tracer.terminate()
            tracer.wait()
            forwarder.terminate()
            forwarder.wait()
            collector.join()
    replies = sorted(waits[registration:])
    p50, p99 = statistics.median(replies), replies[len(replies) * 99 // 100]
    print(f"{len(replies)} replies for {PODS} pods: p50 {p50:.3f} ms, p99 {p99:.3f} ms, max {replies[-1]:.3f} ms")
    print_mark("nri_live, p99 of request to reply, ms", p99, at_most=1.0)


if __name__ == "__main__":
    main()
