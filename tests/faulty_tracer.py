# SPDX-License-Identifier: Apache-2.0
"""`tracer` with a fault in one stage of the pipeline: run as a program by the tests of how a run ends.

    faulty_tracer.py STAGE ITEM HOW run ...

STAGE: reading, assembling, storing, watching, resources. ITEM: how many of its inputs it takes well before the fault,
or `last`. HOW: `raises` or `hangs`.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

from tracer.cli.entry import main
from tracer.kernel.rings import Rings
from tracer.pipeline import run
from tracer.pipeline.tick_tables import TickTables
from tracer.pipeline.watching import Watching
from tracer.readers.resources import ResourcesReader
from tracer.store import writer
from tracer.store.writer import Store

FAULT = "planted fault"
# Where a stage takes an input, and where it takes its last one.
PLACES: dict[str, tuple[tuple[Any, str], tuple[Any, str]]] = {
    "reading": ((Rings, "follow"), (Rings, "follow")),
    "assembling": ((TickTables, "add"), (TickTables, "close_all")),
    "storing": ((Store, "append"), (writer, "encode")),
    "watching": ((Watching, "_ask_for_names"), (Watching, "_ask_for_names")),
    "resources": ((ResourcesReader, "read"), (ResourcesReader, "close")),
}


def plant(stage: str, item: str, how: str) -> None:
    """Puts a wrapper around the method that takes the stage's inputs."""
    owner, name = PLACES[stage][item == "last"]
    real: Callable[..., Any] = getattr(owner, name)
    taken = 0

    def faulty(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal taken
        taken += 1
        is_last = name == "follow" and item == "last" and self._pace[0]
        if is_last or (name != "follow" and item == "last") or (item != "last" and taken == int(item) + 1):
            if how == "hangs":
                time.sleep(1_000)
            raise RuntimeError(FAULT)
        return real(self, *arguments, **options)

    setattr(owner, name, faulty)


if __name__ == "__main__":
    stage, item, how = sys.argv[1:4]
    del sys.argv[1:4]
    plant(stage, item, how)
    run._END_SECONDS = run._STORING_END_SECONDS = 2.0
    main()
