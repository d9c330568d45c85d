# SPDX-License-Identifier: Apache-2.0
"""The programs compile with a host's kernel headers, with the bundled ones, and where the host's are broken."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

# Prints which headers there are, and loads.
LOAD = """
from tracer.kernel.loader import host_headers
from tracer.kernel.tick_load import TickLoad
headers = host_headers()
with TickLoad(tick_ns=1_000_000, counted=[True] * 3).result():
    print("host" if headers else "bundled")
"""

# In a mount namespace of its own: /lib/modules may not exist, and it is not ours to change.
PREPARE = """
set -e
mount -t tmpfs tracer-test "$1"
mkdir "$1/upper" "$1/work"
mount -t overlay -o "lowerdir=/usr/lib,upperdir=$1/upper,workdir=$1/work" overlay /usr/lib
modules=/lib/modules/$(uname -r)
rm -rf "$modules"
mkdir -p "$modules"
"""
WITH_HEADERS = 'ln -s "$2" "$modules/build"; ln -s "$3" "$modules/source"'
WITHOUT_HEADERS = ":"
WITH_BROKEN_HEADERS = 'mkdir -p "$modules/build/include/linux"; touch "$modules/build/include/linux/kconfig.h"'


def debian_headers() -> tuple[Path, Path]:
    """The newest headers installed: the architecture's own and the common ones."""
    own = max(Path("/usr/src").glob("linux-headers-*[0-9]-*64"))
    common = own.with_name(own.name.rsplit("-", 1)[0] + "-common")
    return (own, common) if common.is_dir() else (own, own)


@pytest.mark.parametrize(
    ("headers", "found"),
    [(WITH_HEADERS, "host"), (WITHOUT_HEADERS, "bundled"), (WITH_BROKEN_HEADERS, "host")],
    ids=["with", "without", "broken"],
)
def test_the_programs_load(tmp_path: Path, headers: str, found: str) -> None:
    own, common = debian_headers()
    script = f'{PREPARE}\n{headers}\nexec "$4" -c "$5"'
    arguments = [str(tmp_path), str(own), str(common), sys.executable, LOAD]
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == [found]
