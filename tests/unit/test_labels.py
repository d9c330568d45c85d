# SPDX-License-Identifier: Apache-2.0
from typing import Any

import polars as pl
import pytest

from tracer.analysis.labels import container_label
from tracer.analysis.recording import polars_schema

ID = "0123456789abcdef" * 4


def label(**columns: Any) -> str:
    schema = polars_schema("windows")
    row = pl.DataFrame([{"cgroup_kind": "container", "cgroup_id": 7, **columns}], schema=schema)
    return str(row.select(container_label()).item())


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"pod_name": "web-1", "container_name": "app", "container_id": ID}, "web-1/app"),
        ({"pod_name": "web-1", "container_id": ID}, "web-1/0123456789ab"),
        ({"container_name": "redis", "container_id": ID, "cgroup_path": "/docker/x"}, "redis"),
        ({"container_id": ID, "cgroup_path": f"/docker/{ID}"}, "0123456789ab"),
        ({"container_id": ID, "container_name": ""}, "0123456789ab"),
        ({"pod_name": "web-1", "cgroup_kind": "sandbox", "container_id": ID}, "web-1 (sandbox)"),
        ({"pod_name": "web-1", "cgroup_kind": "pod"}, "web-1 (pod)"),
        ({"cgroup_kind": "unit", "cgroup_path": "/system.slice/ssh.service"}, "ssh.service"),
        ({"cgroup_kind": "other", "cgroup_path": "/"}, "/"),
        ({"cgroup_kind": "other", "cgroup_path": "/build/x"}, "/build/x"),
        ({"cgroup_kind": "idle", "cgroup_id": 0}, "idle"),
        ({"cgroup_kind": "unknown"}, "cgroup 7"),
        ({"cgroup_kind": "unit"}, "cgroup 7"),
    ],
)
def test_labels(columns: dict[str, Any], expected: str) -> None:
    assert label(**columns) == expected
