# SPDX-License-Identifier: Apache-2.0
"""Which experiments a report proposes: for each pair once, and none that would be refused."""

import shlex

import pytest

from tracer.analysis.experiments import experiments
from tracer.analysis.findings import Container, Cost, Estimate, Joint, Untold


def container(name: str, namespace: str | None = "shop", kind: str = "container", node: str = "n1") -> Container:
    return Container(node_name=node, name=name, namespace=namespace, kind=kind, cgroup_ids=[7])


def cost(victim: Container, by: Container | None, kind: str = "waiting") -> Cost:
    return Cost(container=victim, kind=kind, by=by, time_ns=5, share_of_time=0.1)  # type: ignore[arg-type]


WEB, ETL, JOB = container("shop/web-1/app"), container("batch/batch-7/etl", "batch"), container("job", None)


def commands(*costs: Cost) -> list[str]:
    return [one.command for one in experiments(costs, [], [], [])]


def test_each_pair_once_in_the_order_of_what_it_cost() -> None:
    assert commands(cost(WEB, ETL), cost(WEB, JOB, "cache"), cost(WEB, ETL, "cache"), cost(ETL, WEB)) == [
        "tracer verify shop/web-1/app batch/batch-7/etl",
        "tracer verify shop/web-1/app job",
        "tracer verify batch/batch-7/etl shop/web-1/app",
    ]


def test_who_cannot_be_told_apart_is_tried_one_by_one_and_what_cannot_be_told_last() -> None:
    lost = Estimate(value=0.2, low=0.1, high=0.3)
    joint = Joint(
        victim=WEB, cpu_time_ns=100, aggressors=[ETL, JOB], lost_cycles=lost, lost_share=lost, confidence=0.99
    )
    untold = Untold(container=ETL, suspects=[JOB], detectable_share=0.1)
    assert [one.command for one in experiments([cost(JOB, ETL)], [], [joint], [untold])] == [
        "tracer verify shop/web-1/app batch/batch-7/etl",
        "tracer verify shop/web-1/app job",
        "tracer verify job batch/batch-7/etl",
        "tracer verify batch/batch-7/etl job",
    ]


def test_the_same_pair_on_two_nodes_is_two() -> None:
    there = (container("shop/web-1/app", node="n2"), container("batch/batch-7/etl", "batch", node="n2"))
    found = experiments([cost(WEB, ETL), cost(*there)], [], [], [])
    assert [one.victim.node_name for one in found] == ["n1", "n2"]


@pytest.mark.parametrize(
    "suspect",
    [
        None,
        container("/", None, "other"),
        container("containerd.service", None, "unit"),
        container("proxy/kube-proxy", "kube-system"),
        container("web-1 (sandbox)", "shop", "sandbox"),
        container("kubepods.slice", None, "qos"),
    ],
)
def test_none_where_nobody_could_be_paused(suspect: Container | None) -> None:
    assert commands(cost(WEB, suspect)) == []


def test_none_for_a_victim_that_is_everything() -> None:
    assert commands(cost(container("/", None, "other"), ETL)) == []
    assert commands(cost(container("sshd.service", None, "unit"), ETL)) == [
        "tracer verify sshd.service batch/batch-7/etl"
    ]


def test_a_shell_takes_names_as_they_are() -> None:
    hostile = "a b; rm -rf $HOME `x` 'y'"
    (command,) = commands(cost(container(hostile, None), ETL))
    assert shlex.split(command) == ["tracer", "verify", hostile, "batch/batch-7/etl"]
