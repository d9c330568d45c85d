# SPDX-License-Identifier: Apache-2.0
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.analysis.labels import container_label, is_taken, workload_label
from tracer.analysis.recording import polars_schema
from tracer.naming import Selector

ID = "0123456789abcdef" * 4


def row(**columns: Any) -> pl.DataFrame:
    defaults = {"node_name": "node7", "cgroup_kind": "container", "cgroup_id": 7}
    return pl.DataFrame([defaults | columns], schema=polars_schema("windows"))


def label(**columns: Any) -> str:
    return str(row(**columns).select(container_label()).item())


def workload(**columns: Any) -> str:
    return str(row(**columns).select(workload_label()).item())


def workload_of_pod(pod_name: str) -> str:
    return workload(pod_name=pod_name, container_name="app").removesuffix("/app")


@pytest.mark.parametrize(
    ("pod_name", "expected"),
    [
        ("db-0", "db"),
        ("shop-db-123", "shop-db"),
        # Nobody numbers so; a Deployment may have a number in its name; and a name there has to be.
        ("db-007", "db-007"),
        ("db-1234567", "db-1234567"),
        ("api-2-7d9f8c6b5d-x2x7q", "api-2"),
        ("-3", "-3"),
    ],
)
def test_all_of_a_stateful_set_are_one_where_nobody_asks_for_the_index(pod_name: str, expected: str) -> None:
    of_row = row(pod_name=pod_name, container_name="app").select(workload_label(keep_index=False)).item()
    assert of_row == f"{expected}/app"


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
        ({"namespace": "shop", "pod_name": "web-1", "container_name": "app"}, "shop/web-1/app"),
    ],
)
def test_labels(columns: dict[str, Any], expected: str) -> None:
    assert label(**columns) == expected


# As k8s.io/apimachinery/pkg/util/rand and k8s.io/apiserver/pkg/storage/names make them.
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,40}[a-z0-9])?", fullmatch=True)
RANDOM_ENDS = st.text(ALPHABET, min_size=5, max_size=5)
HASHES = st.integers(100_000, 2**32 - 1).map(lambda number: "".join(ALPHABET[ord(digit) % 27] for digit in str(number)))


def generated(base: str, random_end: str) -> str:
    return base[:58] + random_end


@pytest.mark.parametrize(
    ("pod_name", "expected"),
    [
        ("web-7d9f8c6b5d-x2x7q", "web"),
        ("api-v2-canary-5bfc4-x2x7q", "api-v2-canary-5bfc4"),
        ("node-exporter-x2x7q", "node-exporter"),
        ("etl-28391820-abcde", "etl"),
        ("etl-1700000000-x2x7q", "etl"),
        ("old-1234567890-x2x7q", "old"),
        ("train-3-x2x7q", "train-3"),
        ("db-0", "db-0"),
        ("db-12", "db-12"),
        ("kube-apiserver-node7", "kube-apiserver"),
        ("redis-cache", "redis-cache"),
        ("web-mysql", "web-mysql"),
        ("web-https", "web"),
        ("-x2x7q", "-x2x7q"),
        ("x2x7q", "x2x7q"),
        ("web-7d9f8c6b5d-x2x7q\n", "web-7d9f8c6b5d-x2x7q\n"),
        ("shop-web:3-e95a40ef", "shop-web"),
        ("shop-web:3-e95a40efb", "shop-web:3-e95a40efb"),
        ("f" * 52 + ":3-e95a40ef", "f" * 52),
        (":3-e95a40ef", ":3-e95a40ef"),
    ],
)
def test_workload_of_a_pod(pod_name: str, expected: str) -> None:
    assert workload_of_pod(pod_name) == expected


@given(name=NAMES, template_hash=HASHES, random_end=RANDOM_ENDS)
def test_pods_of_one_deployment_are_one_workload_in_each_rollout(
    name: str, template_hash: str, random_end: str
) -> None:
    assert workload_of_pod(generated(f"{name}-{template_hash}-", random_end)) == name


@given(name=NAMES, random_end=RANDOM_ENDS)
def test_pods_of_one_daemon_set_are_one_workload(name: str, random_end: str) -> None:
    # `-agent`, as a name of its own that looks like a hash (`cd-decade4`) would be taken for one.
    assert workload_of_pod(generated(f"{name}-agent-", random_end)) == f"{name}-agent"


@given(
    first=st.tuples(HASHES, RANDOM_ENDS),
    second=st.tuples(HASHES, RANDOM_ENDS),
    name=st.text("abc-", min_size=45, max_size=60),
)
def test_names_that_were_too_long_are_one_workload_too(
    first: tuple[str, str], second: tuple[str, str], name: str
) -> None:
    labels = {workload_of_pod(generated(f"{name}d-{of}-", random_end)) for of, random_end in (first, second)}
    assert len(labels) == 1


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"namespace": "shop", "pod_name": "web-7d9f8c6b5d-x2x7q", "container_name": "app"}, "shop/web/app"),
        (
            {"namespace": "shop", "pod_name": "db-0", "cgroup_kind": "sandbox", "container_id": ID},
            "shop/db-0 (sandbox)",
        ),
        ({"container_name": "proj-web-1", "container_id": ID}, "proj-web-1"),
        ({"container_id": ID}, "0123456789ab"),
        ({"cgroup_kind": "unit", "cgroup_path": "/system.slice/ssh.service"}, "ssh.service"),
        ({"cgroup_kind": "unit", "cgroup_path": "/user.slice/user-0.slice/session-3.scope"}, "session-*.scope"),
        ({"cgroup_kind": "unit", "cgroup_path": "/system.slice/run-r0f1e2d.service"}, "run-*.service"),
        ({"cgroup_kind": "unit", "cgroup_path": "/system.slice/runner.service"}, "runner.service"),
        ({"cgroup_kind": "other", "cgroup_path": "/"}, "/"),
        ({"cgroup_kind": "unknown"}, "cgroup 7"),
    ],
)
def test_workloads(columns: dict[str, Any], expected: str) -> None:
    assert workload(**columns) == expected


def test_rows_of_one_cgroup_are_told_alike_and_in_their_order() -> None:
    rows = pl.concat([row(container_name="web"), row(cgroup_id=8, cgroup_kind="unit"), row(container_name="web")])
    assert rows.select(container_label()).to_series().to_list() == ["web", "cgroup 8", "web"]
    chosen = rows.lazy().filter(is_taken(Selector(["w*"]))).collect(engine="streaming")
    assert chosen["cgroup_id"].to_list() == [7, 7]
