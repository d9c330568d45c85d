# SPDX-License-Identifier: Apache-2.0
"""Classes of containers that a real containerd tells of by NRI."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from containerd_node import ContainerdNode, Pod
from live_node import Tracer

pytestmark = pytest.mark.root

RDT, BLOCKIO = "rdt.resources.beta.kubernetes.io", "blockio.resources.beta.kubernetes.io"


@pytest.fixture
def tracer(containerd: ContainerdNode, tmp_path: Path) -> Iterator[Tracer]:
    started = Tracer(tmp_path / "results", "--nri", str(containerd.nri_socket))
    started.wait_until_tracing()
    yield started
    if started.process.poll() is None:
        started.process.kill()
    started.process.communicate()


def test_classes_that_a_pod_asks_for_are_in_lifecycle(
    containerd: ContainerdNode, run_pod: Callable[..., Pod], tracer: Tracer
) -> None:
    pod = run_pod(
        "classes", annotations=((f"{RDT}/pod", "bronze"), (f"{RDT}/container.app", "gold"), (f"{BLOCKIO}/pod", "slow"))
    )
    containers = [containerd.run_container(pod, name, "sleep", "600") for name in ("app", "sidecar")]
    other = containerd.run_container(run_pod("none"), "app", "sleep", "600")
    # What came is told with the next batch of records, a second later at the latest.
    time.sleep(2)
    tracer.process.terminate()
    rows = tracer.result().table("lifecycle")
    named = rows.filter(event="named", source="nri").select("container_id", "rdt_class", "blockio_class")
    told = {container_id: classes for container_id, *classes in named.rows()}
    assert told[containers[0].id] == ["gold", "slow"]
    assert told[containers[1].id] == ["bronze", "slow"]
    assert told[other.id] == [None, None]
