# SPDX-License-Identifier: Apache-2.0
"""A manifest for the tests that need one."""

from typing import Any
from uuid import UUID

import msgspec

from tracer.store.manifest import (
    Clock,
    ClockAnchor,
    EncodedEvent,
    Event,
    Host,
    Instant,
    Manifest,
    TopologyChange,
    Totals,
)

RUN_ID = UUID("0123abcd-4567-489a-8bcd-ef0123456789")


class Domain(msgspec.Struct):
    """Stands for what another room puts into `topology`."""

    size_bytes: int
    cpus: list[int]


def example_manifest(**changes: Any) -> Manifest:
    anchor = ClockAnchor(
        anchor_realtime_ns=1_795_312_075 * 10**9, anchor_monotonic_ns=12, uncertainty_ns=80, source="test"
    )
    manifest = Manifest(
        run_id=RUN_ID,
        status="running",
        start=Instant.of(1_795_312_075_000_000_001),
        host=Host(
            node_name="node-1",
            identifier="node/1",
            kernel_release="6.1.0",
            kernel_version="#1 SMP",
            machine="x86_64",
            boot_id=None,
            cpu_model="a CPU",
            online_cpus=[0, 1],
        ),
        topology={"llc": [Domain(size_bytes=32 << 20, cpus=[0, 1])]},
        topology_changes=[
            TopologyChange(
                valid_from=Instant.of(1_795_312_076_000_000_000),
                topology={"llc": [Domain(size_bytes=32 << 20, cpus=[0])]},
            )
        ],
        events=[
            Event(column="cycles", spec="r412e", type=4, config="0x412e", counted=True),
            Event(
                column="llc_misses",
                spec="cache-misses",
                type=None,
                config=None,
                counted=False,
                reason_missing="no PMU",
                encodings={"cpu": EncodedEvent(name="cache-misses", encoding="event=0x64,umask=0x09")},
            ),
        ],
        clock=Clock(start=anchor),
        tick_ns=10**6,
        window_ticks=60,
        configuration={"output": "/out", "keep": None, "event": []},
        versions={"tracer": "0.1.0", "bcc": None},
        totals=Totals(rows={"windows": 5}, lost_by_cpu={1: {"ring_full": 3}}, records_lost=3),
        notes=["llc_misses is null: no PMU"],
    )
    return msgspec.structs.replace(manifest, **changes)
