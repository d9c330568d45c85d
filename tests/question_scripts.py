# SPDX-License-Identifier: Apache-2.0
"""The scripts with questions on a recording, run as people run them."""

import subprocess
import sys
import tomllib
from pathlib import Path

_DIRECTORY = Path(__file__).parents[1] / "scripts"
SCRIPTS = [
    _DIRECTORY / f"{name}.py"
    for name in ("noisy_neighbours", "cpi_by_llc_misses", "burst_timeline", "cpi_histogram", "memory_against_cpi")
]
# Needs no counters, but waits.
WHO_WAITED = _DIRECTORY / "who_waited.py"


def question(script: Path | str, *arguments: object) -> str:
    """What a script, by its path or its name, says; it must end well, and quietly."""
    path = script if isinstance(script, Path) else _DIRECTORY / f"{script}.py"
    command = [sys.executable, "-W", "error", str(path), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def dependencies(text: str) -> list[str]:
    """Those that a script's own metadata name (PEP 723)."""
    lines = text.split("# /// script\n")[1].split("# ///\n")[0].splitlines()
    metadata = tomllib.loads("\n".join(line.removeprefix("#").removeprefix(" ") for line in lines))
    return [str(dependency) for dependency in metadata["dependencies"]]
