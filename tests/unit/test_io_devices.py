# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
from cgroup_file_sets import FILE_SETS, write_files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracer.readers.block_devices import BlockDevices
from tracer.readers.io_devices import IoDevicesReader
from tracer.readers.protocol import Cgroup

_NOT_OF_THE_FILES = ("cgroup_id", "monotonic_ns", "is_summed")


def read(root: Path, path: str = "/a") -> list[dict[str, object]]:
    cgroup = Cgroup((root / path.lstrip("/")).stat().st_ino, path, "container", None, False)
    rows = IoDevicesReader(root, BlockDevices(sysfs=root, proc=root)).read([cgroup]).rows["io"].to_dicts()
    return [
        {name: value for name, value in row.items() if value is not None and name not in _NOT_OF_THE_FILES}
        for row in rows
    ]


def test_a_row_a_device_with_its_limits(tmp_path: Path) -> None:
    limits = {"io.max": "8:0 rbps=max wbps=1048576 riops=max wiops=120\n259:3 rbps=5 wbps=max riops=max wiops=max\n"}
    write_files(tmp_path / "a", FILE_SETS["6.18"] | limits)
    assert read(tmp_path) == [
        {"device": "259:3", "io_max_rbps": 5},
        {
            "device": "8:0", "io_rbytes": 90430464, "io_wbytes": 299008000, "io_rios": 8950, "io_wios": 1252,
            "io_dbytes": 50331648, "io_dios": 3021, "io_max_wbps": 1048576, "io_max_wiops": 120,
        },
        {
            "device": "8:16", "io_rbytes": 1459200, "io_wbytes": 314773504, "io_rios": 192, "io_wios": 353,
            "io_dbytes": 0, "io_dios": 0,
        },
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "\n", "8:0\n", "nonsense rbytes=1\n", "8:0 rbytes=-1 wbytes= rios=x1 =5\n"])
def test_what_is_malformed_is_left_out(tmp_path: Path, text: str) -> None:
    write_files(tmp_path / "a", {"io.stat": text})
    assert all(row.keys() == {"device"} for row in read(tmp_path))


def test_a_cgroup_that_is_gone_has_no_row(tmp_path: Path) -> None:
    gone = Cgroup(1, "/gone", "container", None, False)
    assert IoDevicesReader(tmp_path).read([gone]).rows["io"].is_empty()


@given(st.binary())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_contents_do_no_harm(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a").mkdir(exist_ok=True)
    (tmp_path / "a" / "io.stat").write_bytes(b"8:0 rbytes=7\n" + text)
    assert read(tmp_path)[0]["device"] is not None
