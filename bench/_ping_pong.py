# SPDX-License-Identifier: Apache-2.0
"""Two processes on one CPU throw a byte to and fro, so that each throw is a context switch.

    python bench/_ping_pong.py CPU THROWS

A program of its own: the bench that starts it has threads, with which it should not fork.
"""

import os
import sys


def play(receive: int, send: int, throws: int) -> None:
    """Throws back what comes."""
    for _ in range(throws):
        os.write(send, os.read(receive, 1))


def main() -> None:
    cpu, throws = (int(argument) for argument in sys.argv[1:])
    os.sched_setaffinity(0, {cpu})
    there, back = os.pipe(), os.pipe()
    other = os.fork()
    if other == 0:
        play(there[0], back[1], throws)
        return
    os.write(there[1], b"x")
    play(back[0], there[1], throws)
    os.waitpid(other, 0)


if __name__ == "__main__":
    main()
