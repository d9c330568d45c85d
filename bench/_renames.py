# SPDX-License-Identifier: Apache-2.0
"""Files and directories that are renamed under a run: what names containers, and results that somebody collects."""

import json
import threading
from contextlib import suppress
from pathlib import Path

_PAUSE_SECONDS = 0.1
_COLLECTED = ("health", "lifecycle")
_MOVED = "processes"


class Renames(threading.Thread):
    """Until `finish`: replaces bundles' files, takes closed files of two tables, and directories of a third."""

    def __init__(self, state: Path, output: Path, collected: Path) -> None:
        super().__init__(daemon=True)
        self.count = 0
        self._state = state
        self._output = output
        self._collected = collected
        self._finish = threading.Event()
        for table in _COLLECTED:
            (collected / table).mkdir()

    def run(self) -> None:
        """Called by the thread."""
        while not self._finish.wait(_PAUSE_SECONDS):
            for bundle in list(self._state.glob("*/*/*"))[:2]:
                # It may be gone at any moment, or not be written to its end.
                with suppress(FileNotFoundError, ValueError):
                    self._replace(bundle / "config.json")
            self.collect()
            for directory in self._output.glob(f"{_MOVED}/dt=*"):
                directory.rename(self._collected / f"{_MOVED}-{self.count}")
                self.count += 1

    def finish(self) -> None:
        """Ends the thread."""
        self._finish.set()
        self.join()

    def collect(self) -> None:
        """Takes what is closed."""
        for table in _COLLECTED:
            for path in self._output.glob(f"{table}/*/*/*.parquet"):
                path.rename(self._collected / table / path.name)
                self.count += 1

    def _replace(self, path: Path) -> None:
        new = path.with_suffix(".new")
        content = path.read_bytes()
        json.loads(content)
        new.write_bytes(content)
        new.rename(path)
        self.count += 1
