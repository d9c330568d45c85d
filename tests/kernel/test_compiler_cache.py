# SPDX-License-Identifier: Apache-2.0
"""The ring reader compiles also where neither the installation nor the home directory can be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tracer.kernel

pytestmark = pytest.mark.root

PACKAGE = str(Path(tracer.kernel.__file__).parent)
READ_ONLY = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; exec "$2" -c "$3"'
COMPILE = """
from tracer.kernel.compiler_cache import ensure_compiler_cache
ensure_compiler_cache()
import os, tracer.kernel.ring_reader
print(os.environ.get("NUMBA_CACHE_DIR"))
"""


def compiled(home: str, temporary: Path, program: str = COMPILE) -> str:
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", READ_ONLY, "sh", PACKAGE, sys.executable, program],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": home, "TMPDIR": str(temporary)},
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_the_home_directory_is_next(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    assert compiled(str(tmp_path / "home"), tmp_path) == "None"
    assert list((tmp_path / "home" / ".cache" / "numba").rglob("*.nbi"))


def test_a_directory_of_its_own_is_last_and_does_not_stay(tmp_path: Path) -> None:
    # Not even root can make a directory in procfs.
    assert compiled("/proc/self", tmp_path).startswith(f"{tmp_path}/tracer-numba-")
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written_memory_takes_it(tmp_path: Path) -> None:
    nowhere = "/proc/self"
    program = f"import tempfile; tempfile._candidate_tempdir_list = lambda: [{nowhere!r}]\n{COMPILE}"
    assert compiled(nowhere, tmp_path, program).startswith("/dev/shm/tracer-numba-")
