# SPDX-License-Identifier: Apache-2.0
"""Inputs for one target of `fuzz_targets` that are guided by what code they reach, where atheris is installed.

    pip install atheris
    fuzz_guided.py TARGET SECONDS

What numba compiles is not watched. An input that a target does not bear is printed and kept as `crash-…`.
"""

import contextlib
import importlib
import sys
import tempfile
from pathlib import Path

import atheris

_COMPILED = ("tracer.kernel.ring_reader", "tracer.kernel.event_ring", "tracer.readers.keyed_text")
for name in _COMPILED:
    importlib.import_module(name)
with atheris.instrument_imports(include=["tracer"]):
    from fuzz_targets import TARGETS


def main(name: str, seconds: str) -> None:
    """Does not return: atheris ends the process."""
    (target,) = (target for target in TARGETS if target.name == name)
    directory = Path(tempfile.mkdtemp(prefix="tracer-fuzz-"))
    corpus, work = directory / "corpus", directory / "work"
    corpus.mkdir()
    work.mkdir()
    for number, seed in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(seed)
    take = target.make(work)

    def one(content: bytes) -> None:
        with contextlib.suppress(*target.refuses):
            take(content)

    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-rss_limit_mb=3000", "-timeout=60", str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
