# SPDX-License-Identifier: Apache-2.0
from datetime import timedelta
from pathlib import Path
from typing import Any

from recording_examples import START, windows_rows, write_rows

from tracer.analysis.recording import open_recording
from tracer.analysis.roster import Roster

NAMED: dict[str, Any] = {"cgroup_path": "/kubepods/web", "container_id": "a" * 64, "container_name": "app"}


def later(rows: list[dict[str, Any]], seconds: float) -> list[dict[str, Any]]:
    return [row | {"window_start": row["window_start"] + timedelta(seconds=seconds)} for row in rows]


def test_names_come_after_the_first_rows_and_are_kept(tmp_path: Path) -> None:
    write_rows(
        tmp_path,
        "windows",
        [
            *windows_rows(10, cgroup_id=7),
            *later(windows_rows(10, cgroup_id=7, **NAMED, pod_name="web-1"), 1),
            # It is gone long before the file ends.
            *later(windows_rows(1, cgroup_id=8), 1),
            *later(windows_rows(1, cgroup_id=8, **NAMED, pod_name="web-2"), 1.06),
            *later(windows_rows(10, cgroup_id=9, cgroup_kind="other", cgroup_path="/never-named"), 2),
        ],
    )
    names = Roster(open_recording([tmp_path])).containers.sort("name")["name"].to_list()
    assert names == ["/never-named", "web-1/app", "web-2/app"]


def test_a_second_run_that_ended_before_it_knew_a_name_takes_none_away(tmp_path: Path) -> None:
    first = windows_rows(100, cgroup_id=7, **NAMED, pod_name="web-1")
    write_rows(tmp_path, "windows", first)
    write_rows(tmp_path, "windows", later(windows_rows(2, cgroup_id=7), 60))
    (row,) = Roster(open_recording([tmp_path])).containers.iter_rows(named=True)
    assert (row["name"], row["rows"]) == ("web-1/app", 102)


def test_rows_of_a_part_of_the_time_have_their_names(tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(1_000, cgroup_id=7, **NAMED, pod_name="web-1"))
    part = open_recording([tmp_path], since=START + timedelta(seconds=10), until=START + timedelta(seconds=20))
    (row,) = Roster(part).containers.iter_rows(named=True)
    assert row["name"] == "web-1/app"
    assert 160 <= row["rows"] <= 170


def test_who_has_a_cgroups_id_after_a_restart_is_not_called_as_it_was(tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(10, cgroup_id=7, **NAMED, pod_name="web-1", pod_uid="1" * 32))
    unit: dict[str, Any] = {"cgroup_kind": "unit", "cgroup_path": "/system.slice/ssh.service"}
    write_rows(tmp_path, "windows", later(windows_rows(10, cgroup_id=7, **unit), 60))
    (row,) = Roster(open_recording([tmp_path])).containers.iter_rows(named=True)
    assert (row["name"], row["pod_uid"], row["cgroup_id"]) == ("ssh.service", None, 7)
