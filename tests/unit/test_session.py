# SPDX-License-Identifier: Apache-2.0
"""The manifest of a run that has just started, of a node that is not this one."""

from pathlib import Path
from uuid import UUID

import msgspec
from sysfs_tree import Node

from tracer.kernel.clock import ClockAnchor
from tracer.kernel.counter_plan import CounterPlan
from tracer.kernel.event_specs import parse_events
from tracer.pipeline.node import NodeTopology
from tracer.pipeline.options import RunOptions
from tracer.pipeline.session import begin_manifest
from tracer.store.manifest import EncodedEvent, encode_manifest, read_manifest

EVENTS = parse_events(["instructions=r00c0"])
OPTIONS = RunOptions(
    output=Path("results"),
    duration_ns=None,
    tick_ns=1_000_000,
    window_ticks=60,
    rotate_ns=90 * 10**9,
    keep_bytes=None,
    on_full="stop",
    sync=False,
    ticks=False,
    events=EVENTS,
    identifier="node-1",
    ring_bytes=None,
    memory_limit_bytes=512 << 20,
    cpu_limit=None,
    nri_socket=None,
    containerd_states=(),
    resctrl="off",
    resctrl_mount=False,
    waits=True,
    resources_interval_ns=10**9,
    io=False,
    processes_interval_ns=None,
    processes_max_rss_bytes=4 << 30,
    regions=False,
)


def test_it_says_what_each_event_is_on_this_processor(tmp_path: Path) -> None:
    node = Node(tmp_path, "0-1")
    node.write_sys("bus/event_source/devices/cpu/events/cpu-cycles", "event=0x76")
    node.write_sys("bus/event_source/devices/cpu/events/instructions", "event=0xc0")
    node.write_sys("bus/event_source/devices/cpu/events/cache-misses", "event=0x64,umask=0x09")
    topology = NodeTopology(**msgspec.structs.asdict(node.read()), cgroup=None, runtimes=[])
    manifest = begin_manifest(
        UUID(int=1),
        OPTIONS,
        CounterPlan(EVENTS, (None, None, None), grouped=True),
        ClockAnchor(realtime_ns=10**18, monotonic_ns=0, uncertainty_ns=1),
        topology,
        first_tick=7,
        bcc_version="0",
    )
    path = tmp_path / "session.json"
    path.write_bytes(encode_manifest(manifest))
    read = read_manifest(path)
    assert [(event.spec, event.encodings) for event in read.events] == [
        ("cycles", {"cpu": EncodedEvent(name="cpu-cycles", encoding="event=0x76")}),
        ("r00c0", {}),
        ("cache-misses", {"cpu": EncodedEvent(name="cache-misses", encoding="event=0x64,umask=0x09")}),
    ]
    assert msgspec.convert(read.topology, type=NodeTopology) == topology
