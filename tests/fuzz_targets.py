# SPDX-License-Identifier: Apache-2.0
"""All that reads bytes from outside, each as a function of bytes that must bear any.

`make fuzz` tries a million of them, `tests/unit/test_fuzz.py` some for each. A function raises only what its target
`refuses`; it must not take long, nor memory beyond a bound, nor end the process.
"""

import json
import mmap
import os
import sqlite3
import struct
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from crafted_rings import BUSY, HEADER_BYTES, PAGE, SIZE, STEP, CraftedRing, rings_of
from live_snapshots import Served
from manifest_examples import RUN_ID, example_manifest
from store_examples import MIDNIGHT_NS, example_rows

from tracer.cli.run import default_options
from tracer.cli.run_options import parse_options, read_config
from tracer.containers.cgroupfs import parse_cgroup2_mounts
from tracer.containers.identity import ContainerKey, recognize
from tracer.containers.limits import read_limits
from tracer.containers.nri import messages_pb2 as messages
from tracer.containers.nri.conversation import Conversation
from tracer.containers.nri.framing import PLUGIN_CONNECTION, REQUEST, Message, NriError, encode
from tracer.containers.nri.naming import names_of
from tracer.containers.runtime_state import RuntimeState
from tracer.containers.runtime_state.files import Files
from tracer.containers.runtime_state.podman_pods import PodmanPods
from tracer.containers.version1 import parse_membership
from tracer.errors import NodeUnsupportedError, TracerError, UsageError
from tracer.ingest.dogstatsd import messages_of, parse_message
from tracer.ingest.gathering import Gathering, Sender
from tracer.ingest.messages import MalformedError
from tracer.ingest.openmetrics import parse_exposition
from tracer.kernel.btf import member_offsets
from tracer.kernel.cgroup_events import RECORD, decode
from tracer.kernel.cpus import parse_cpu_list
from tracer.kernel.event_ring import EventRing
from tracer.kernel.event_specs import parse_event
from tracer.kernel.record_block import RecordBlock
from tracer.kernel.records import TICK_RECORD
from tracer.kernel.topology import read_topology
from tracer.live.metrics.answering import Answers
from tracer.live.server import answer_to, encoded
from tracer.mounts import mounts_of
from tracer.readers.block_devices import read_disks
from tracer.readers.cgroup_files import CgroupFiles
from tracer.readers.cgroup_keys import FILES
from tracer.readers.file_systems import parse_mountinfo
from tracer.readers.memory_maps import parse_rollup, parse_smaps
from tracer.readers.process_stat import parse_stat
from tracer.readers.resctrl.values import parse_value
from tracer.recorder.rules import parse_rule
from tracer.store.closed_files import read_facts
from tracer.store.hours import hour_of, hour_text
from tracer.store.journal import DamagedJournalError, encode_frame, parse_journal_name, read_frames
from tracer.store.layout import ClosedFileName, file_path, journal_directory, manifest_path, parse_closed_file
from tracer.store.manifest import encode_manifest, read_manifest
from tracer.store.parquet import conform
from tracer.store.parquet import encode as encode_file
from tracer.store.periods import Period, PeriodFile, decode_period, encode_period, merged_path
from tracer.store.recovery import recover
from tracer.store.schemas import HEALTH, LLC, WINDOWS
from tracer.store.upload.merging import Source, merge
from tracer.store.upload.sequences import Sequences
from tracer.store.upload.state import State
from tracer.store.upload.uploads import Uploads
from tracer.units import parse_bytes, parse_duration_ns

Take = Callable[[bytes], object]
_ID = "0123456789abcdef" * 4


class Target(NamedTuple):
    """What is tried.

    make: gives the function, which may use a directory of its own. share: how many of each hundred inputs it gets.
    """

    name: str
    seeds: Sequence[bytes]
    make: Callable[[Path], Take]
    refuses: tuple[type[Exception], ...] = ()
    share: int = 1


def _rings(_directory: Path) -> Take:
    ring = CraftedRing()
    rings = rings_of(ring)
    block = RecordBlock(400)

    def take(content: bytes) -> None:
        # The first bytes are how far the producer is ahead, the rest is in the ring.
        ahead = int.from_bytes(content[:8], "little") % (1 << 64)
        ring.produced = (ring.consumed + ahead) % (1 << 64)
        ring.write(ring.consumed, content[8 : 8 + SIZE])
        before = ring.consumed
        rows = rings.follow(block, 0, interval_ns=1_000_000, phase_ns=0, deadline_ns=0)
        assert 0 <= rows <= block.capacity
        assert ring.consumed == ring.produced or before <= ring.consumed < ring.produced
        if ring.consumed != ring.produced or ring.produced > 1 << 62:
            # Busy, or a block full; or soon beyond what a position can be.
            ring.consumed = ring.produced = 0

    return take


def _event_ring(_directory: Path) -> Take:
    descriptor = os.memfd_create("ring")
    os.ftruncate(descriptor, 2 * PAGE + 2 * SIZE)
    memory = mmap.mmap(descriptor, 0)

    def take(content: bytes) -> None:
        # As if it had just been made.
        memory[: PAGE + 8] = bytes(PAGE) + content[:8].ljust(8, b"\0")
        memory[2 * PAGE :] = content[8 : 8 + SIZE].ljust(SIZE, b"\0") * 2
        ring = EventRing(descriptor, SIZE)
        try:
            for record in ring.read_now():
                assert len(record) <= SIZE
                with suppress(ValueError):
                    decode(record)
        finally:
            ring.close()

    return take


def _nri(_directory: Path) -> Take:
    def take(content: bytes) -> None:
        conversation = Conversation()
        # In two parts, as a socket may give it.
        for part in (content[: len(content) // 3], content[len(content) // 3 :]):
            for told in conversation.receive(part, 1):
                if told is not None and not isinstance(told, bytes):
                    names_of(told, conversation.runtime)

    return take


def _nri_seeds() -> list[bytes]:
    pod = messages.PodSandbox(id=_ID, name="web-0", uid="u", namespace="shop", annotations={"a": "b"})
    container = messages.Container(id=_ID[::-1], pod_sandbox_id=_ID, name="web", annotations={"c": "d"})
    requests = [
        ("Configure", messages.ConfigureRequest(runtime_name="containerd", runtime_version="2")),
        ("Synchronize", messages.SynchronizeRequest(pods=[pod], containers=[container])),
        ("Synchronize", messages.SynchronizeRequest(pods=[pod], more=True)),
        ("RunPodSandbox", messages.EventRequest(pod=pod)),
        ("StartContainer", messages.EventRequest(pod=pod, container=container)),
        ("StateChange", messages.StateChangeEvent(event=messages.START_CONTAINER, pod=pod, container=container)),
        ("Shutdown", messages.EventRequest()),
    ]
    frames = [
        encode(
            Message(
                PLUGIN_CONNECTION,
                number,
                REQUEST,
                messages.Request(
                    service="nri.pkg.api.v1alpha1.Plugin", method=method, payload=request.SerializeToString()
                ).SerializeToString(),
            )
        )
        for number, (method, request) in enumerate(requests)
    ]
    return [*frames, b"".join(frames)]


_STATE_FILES = {
    f"run/containerd/io.containerd.runtime.v2.task/k8s.io/{_ID}/config.json": {
        "annotations": {"io.kubernetes.cri.container-name": "web", "io.kubernetes.cri.sandbox-name": "shop-7d9"},
        "linux": {"intelRdt": {"closID": "gold"}},
    },
    f"var/lib/containers/storage/overlay-containers/{_ID}/userdata/config.json": {
        "annotations": {"io.container.manager": "libpod", "io.kubernetes.pod.name": "shop-7d9"}
    },
    "var/lib/containers/storage/overlay-containers/containers.json": [
        {"id": _ID, "names": ["web"], "metadata": '{"image-name": "shop/web:1"}'}
    ],
    f"var/lib/docker/containers/{_ID}/config.v2.json": {
        "Name": "/ecs-shop-3-web-1",
        "Config": {
            "Image": "i",
            "Labels": {
                "com.amazonaws.ecs.task-arn": f"task/{_ID[:32]}",
                "com.amazonaws.ecs.task-definition-family": "shop",
                "com.amazonaws.ecs.task-definition-version": "3",
                "com.hashicorp.nomad.alloc_id": "8f0d4b7e-6f3c-4c86-9d53-0e5d3a6f1c11",
            },
        },
    },
    "var/lib/nerdctl/1935db59/names/default/web": _ID,
    "etc/passwd": "web:x:1000:1000::/home/web:/bin/sh",
}


def _runtime_state(directory: Path) -> Take:
    paths = [directory / name for name in _STATE_FILES]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    state = RuntimeState(directory)

    def take(content: bytes) -> None:
        path = paths[len(content) % len(paths)]
        path.write_bytes(content)
        for user_id in (None, 1000):
            found = state.find(ContainerKey(_ID, user_id), None)
            if found is not None:
                texts = [text for text in msgspec.structs.astuple(found.names) if isinstance(text, str)]
                assert all(text.isprintable() and len(text) <= 512 for text in texts)
                assert found.record is None or found.record.read() is not None
        path.unlink()

    return take


def _pods_of_podman(directory: Path) -> Take:
    pods = PodmanPods(Files())
    (directory / "libpod").mkdir()
    paths = [directory / "db.sql", directory / "libpod/bolt_state.db"]

    def take(content: bytes) -> None:
        path = paths[not content.startswith(b"SQL")]
        path.write_bytes(content)
        pod = pods.pod_of(str(directory), _ID)
        assert pod is None or (pod.name.isprintable() and len(pod.name) <= 512)
        path.unlink()

    return take


def _bolt_seed() -> bytes:
    """Pages of 512 bytes: two beginnings, then the trees of the root, of all pods, of one, and of its containers."""
    meta = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, 512, 0, 2, 0, 6, 7, 1)
    checksum = 0xCBF29CE484222325
    for byte in meta:
        checksum = (checksum ^ byte) * 0x100000001B3 % 2**64
    trees: list[dict[bytes, bytes | int]] = [
        {b"pod": 3},
        {b"p": 4},
        {b"config": b'{"name": "shop"}', b"containers": 5, b"state": b'{"InfraContainerID": "%s"}' % _ID.encode()},
        {_ID.encode(): b"web"},
    ]
    pages = [struct.pack("<QHHI", 0, 4, 0, 0) + meta + checksum.to_bytes(8, "little")] * 2
    for number, tree in enumerate(trees, 2):
        page = struct.pack("<QHHI", number, 2, len(tree), 0)
        rest = b""
        for position, (key, value) in enumerate(tree.items()):
            content = value if isinstance(value, bytes) else struct.pack("<QQ", value, 0)
            distance = 16 * (len(tree) - position) + len(rest)
            page += struct.pack("<IIII", isinstance(value, int), distance, len(key), len(content))
            rest += key + content
        pages.append(page + rest)
    return b"".join(page.ljust(512, b"\0") for page in pages)


def _sqlite_seed() -> bytes:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(
            f"""
            PRAGMA page_size = 512;
            CREATE TABLE ContainerConfig (ID TEXT, PodID TEXT); INSERT INTO ContainerConfig VALUES ('{_ID}', 'p');
            CREATE TABLE PodConfig (ID TEXT, Name TEXT); INSERT INTO PodConfig VALUES ('p', 'shop');
            CREATE TABLE PodState (ID TEXT, JSON TEXT);
            INSERT INTO PodState VALUES ('p', '{{"InfraContainerID": "{_ID}"}}');
            """
        )
        return connection.serialize()


def _cgroup_files(directory: Path) -> Take:
    cgroup = directory / "cgroup"
    cgroup.mkdir()
    files = CgroupFiles(os.fsencode(directory), keep_open_at_most=0)
    number = cgroup.stat().st_ino
    files.open(number, "/cgroup")

    def take(content: bytes) -> None:
        name = FILES[len(content) % len(FILES)].name
        (cgroup / name).write_bytes(content)
        files.read([number], with_settings=[number], without_devices=("8:0", "(unknown)"))
        read_limits(cgroup)
        (cgroup / name).unlink()

    return take


def _texts(_directory: Path) -> Take:
    """Files of /proc and the kernel's words, which are parsed without a file of their own."""

    def take(content: bytes) -> None:
        text = content.decode("utf-8", "surrogateescape")
        parse_stat(content)
        parse_rollup(content)
        parse_smaps(content)
        parse_mountinfo(content)
        parse_value(content)
        parse_cgroup2_mounts(text)
        mounts_of("resctrl", text)
        parse_membership(text)
        parse_closed_file(text)
        parse_journal_name(text)
        recognize(text)

    return take


_TEXTS = [
    b"1234 (web (x)) S 1 1234 1234 0 -1 4194560 100 0 0 0 12 34 0 0 20 0 7 0 5000 123456789 2500 18446744073709551615 "
    + b"0 " * 28,
    b"Rss:   100 kB\nPss:   50 kB\nPrivate_Clean:   4 kB\nSwap: 0 kB\n",
    b"7f00-7f10 r-xp 00000000 08:01 42   /usr/lib/libc.so\nSize: 4 kB\nRss: 4 kB\nPss: 2 kB\nVmFlags: rd ex ht\n",
    b"36 35 0:29 /../.. /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
    b"resctrl /sys/fs/resctrl resctrl rw,relatime 0 0\n",
    b"4:cpu,cpuacct:/kubepods/pod1\n0::/kubepods.slice/kubepods-burstable.slice\n",
    b"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod8f0d4b7e_6f3c_4c86_9d53_0e5d3a6f1c11.slice/"
    b"cri-containerd-" + _ID.encode() + b".scope",
    b"/machine.slice/machine-qemu\\x2d1\\x2dweb.scope/lxc.payload.web/nomad.slice/share.slice/"
    b"8f0d4b7e-6f3c-4c86-9d53-0e5d3a6f1c11.web.scope/ecstasks-" + _ID[:32].encode() + b".slice",
    b"windows/dt=2026-11-22/identifier=node-1/windows-20261122T000000Z-0123abcd-000000.parquet",
    b"windows-000000.journal",
    b"Unavailable\n",
]


def _options(_directory: Path) -> Take:
    """Each is a text of its own, so each of them alone may refuse it."""

    def take(content: bytes) -> None:
        text = content.decode("utf-8", "surrogateescape")
        for parse in (parse_bytes, parse_duration_ns, parse_event, parse_cpu_list, parse_rule):
            with suppress(TracerError):
                parse(text)

    return take


def _config(directory: Path) -> Take:
    path = directory / "tracer.toml"
    known = {name: value for name, value in default_options().items() if name not in ("context", "config")}

    def take(content: bytes) -> None:
        path.write_bytes(content)
        given = known | read_config(path, known)
        # Where things lie is looked at, and is no part of this.
        parse_options(given | {"output": directory, "containerd-state": None})

    return take


_CONFIGS = [
    b'output = "results"\nduration = "10s"\ntick = "1ms"\nwindow = 60\nrotate = "90s"\nkeep = "1GiB"\n'
    b'on-full = "stop"\nticks = true\nwaits = "off"\nevent = ["llc_misses=r412e"]\nidentifier = "node-1"\n',
    b'resources-interval = "500ms"\nprocesses = "1s"\nregions = true\nio = true\nsync = true\nring-size = "4MiB"\n',
]


def _topology(directory: Path) -> Take:
    cpu = directory / "sys/devices/system/cpu"
    names = {
        "possible": "0-3\n", "online": "0-3\n", "present": "0-3\n", "isolated": "\n", "smt/active": "1\n",
        "smt/control": "on\n", "cpu0/cache/index3/level": "3\n", "cpu0/cache/index3/type": "Unified\n",
        "cpu0/cache/index3/size": "107520K\n", "cpu0/cache/index3/shared_cpu_list": "0-3\n",
        "cpu0/topology/core_cpus_list": "0-1\n", "cpu0/topology/core_id": "0\n",
        "cpufreq/policy0/related_cpus": "0 1 2 3\n", "cpufreq/policy0/cpuinfo_max_freq": "3500000\n",
        "../node/online": "0\n", "../node/node0/cpulist": "0-3\n", "../node/node0/distance": "10 21\n",
        "../node/node0/meminfo": "Node 0 MemTotal:  65536 kB\n", "../../../bus/event_source/devices/cpu/type": "4\n",
        "../../../bus/event_source/devices/cpu/events/cycles": "event=0x3c\n",
        "../../../bus/event_source/devices/cpu/format/event": "config:0-7\n",
        "../../../../proc/cpuinfo": "processor : 0\nmodel name : a CPU\nflags : hypervisor\n",
        "../../../../proc/meminfo": "MemTotal: 4096 kB\n", "../../../../proc/filesystems": "nodev\tresctrl\n",
        "../../../../proc/mounts": "resctrl /sys/fs/resctrl resctrl rw 0 0\n",
        "../../../../proc/sys/kernel/perf_event_paranoid": "2\n", "../../../../proc/swaps": "Filename\n",
        "../../../../proc/self/mountinfo": "36 35 8:1 / / rw - ext4 /dev/sda1 rw\n",
        "../../../block/sda/dev": "8:0\n", "../../../block/sda/size": "100\n",
    }  # fmt: skip
    (directory / "sys/devices/system/node").mkdir(parents=True)
    paths = []
    for name, text in names.items():
        path = Path(os.path.normpath(cpu / name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        paths.append((path, text))

    def take(content: bytes) -> None:
        path, text = paths[len(content) % len(paths)]
        path.write_bytes(content)
        try:
            read_topology(directory / "sys", directory / "proc")
            read_disks(directory / "sys", directory / "proc")
        finally:
            path.write_text(text)

    return take


def _btf(_directory: Path) -> Take:
    return lambda content: member_offsets(content, ("task_struct", "rq"))


def _btf_seed() -> bytes:
    names = b"\0task_struct\0pid\0int\0"
    task, pid, int_ = (names.index(name) for name in (b"task_struct", b"pid", b"int"))
    types = [int_, 1 << 24, 4, 0x20, task, 4 << 24 | 1, 4, pid, 1, 0]
    words = np.array(types, np.uint32).tobytes()
    head = np.array([24, 0, len(words), len(words), len(names)], np.uint32).tobytes()
    return b"\x9f\xeb\x01\x00" + head + words + names


_REQUESTS = [
    b"GET /metrics HTTP/1.1\nHost: node:9464\nAccept: application/openmetrics-text;version=1.0.0;q=0.8,*/*;q=0.1\n",
    b"HEAD /ready?x=1 HTTP/1.0\nA: b\n c\n",
    b"POST /live HTTP/1.1\nContent-Length: 3\n",
]


def _request(_directory: Path) -> Take:
    """What a stranger may send to the port of the metrics."""
    answers = Answers(Served().exposition, lambda: None)

    def take(data: bytes) -> None:
        answer, with_body = answer_to(data, answers, _raise)
        encoded(answer, with_body=with_body)

    return take


def _raise(error: Exception) -> None:
    raise error


def _datagram(_directory: Path) -> Take:
    """What an application sends, or a stranger in its place, to where it is gathered in rows."""

    def take(content: bytes) -> None:
        gathering, sender = Gathering(most_rows=50), Sender(7, "credentials")
        for line in messages_of(content):
            with suppress(MalformedError):
                gathering.add(0, sender, parse_message(line))
        rows = list(gathering.take())
        assert len(rows) <= 50
        assert all(row.name.isprintable() and abs(row.value) < float("inf") for row in rows)

    return take


def _exposition(_directory: Path) -> Take:
    def take(content: bytes) -> None:
        for message in parse_exposition(content):
            assert message is None or message.name.isprintable()

    return take


_DATAGRAMS = [
    b"http.request:8.5:9:12|ms|@0.5|#path:/a,GET|c:in-42|T1656581400",
    b"a:1|c\nb:2|g\nc:x|s\n_e{1,1}:a|b|#x\n_sc|db|0|m:y\nd:1e3:-2|h|e:it-false,cn-web|card:low",
]
_EXPOSITIONS = [
    b'# HELP a b\n# TYPE a counter\na_total{x="y\\"z"} 5 # {trace="1"} 0.5\n# TYPE h histogram\nh_bucket{le="0.1"} 3\n'
    b'h_bucket{le="+Inf"} 4\nh_count 4\nh_sum 1.5\n# TYPE g gauge\n# UNIT g \ng 1.5 1656581400.25\n# EOF\n',
    b'# TYPE s summary\ns{quantile="0.5"} NaN\ns_sum 5\ns_count 7\nup{a="b",} 1 1656581400000\n',
]


def _journal(directory: Path) -> Take:
    path = directory / "some.journal"

    def take(content: bytes) -> None:
        path.write_bytes(content)
        with path.open("rb") as journal:
            for rows in read_frames(journal):
                with suppress(ValueError):
                    conform(HEALTH, rows)

    return take


def _frames() -> list[bytes]:
    frames = [encode_frame(example_rows(table, [MIDNIGHT_NS, MIDNIGHT_NS + 1], 1)) for table in (HEALTH, WINDOWS)]
    return [*frames, b"".join(frames)]


def _manifest(directory: Path) -> Take:
    path = directory / "session.json"

    def take(content: bytes) -> None:
        path.write_bytes(content)
        encode_manifest(read_manifest(path))

    return take


def _manifest_seed() -> bytes:
    host = msgspec.structs.replace(example_manifest().host, identifier="node-1")
    return encode_manifest(msgspec.structs.replace(example_manifest(), run_id=RUN_ID, status="running", host=host))


def _period(_directory: Path) -> Take:
    def take(content: bytes) -> None:
        period = decode_period(content)
        assert decode_period(encode_period(period)) == period

    return take


def _period_seed() -> bytes:
    path = merged_path("windows", "n", MIDNIGHT_NS // 1_000, RUN_ID, 0)
    file = PeriodFile(
        path=path, table="windows", rows=7, bytes=900, sha256="0" * 64, first_time_ns=1, last_time_ns=2, sources="0-3"
    )
    hour = hour_text(hour_of(MIDNIGHT_NS // 1_000))
    return encode_period(
        Period(node_name="node", identifier="n", run_id=RUN_ID, hour=hour, files=[file], complete=True, lost={"io": 3})
    )


def _upload_state(directory: Path) -> Take:
    path = directory / "runs" / str(RUN_ID) / "upload.json"
    path.parent.mkdir(parents=True)
    name = ClosedFileName("20261122T000000Z", 3, f"windows/dt=x/identifier=n/windows-0-{RUN_ID.hex[:8]}-000003.parquet")

    def take(content: bytes) -> None:
        path.write_bytes(content)
        uploads = Uploads(directory, "s3://b")
        uploads.is_safe(name)
        uploads.lose(name, RUN_ID, {495_096: 5})
        uploads.cover(RUN_ID, 495_096, "windows", Sequences.of([3]))
        uploads.save(RUN_ID)

    return take


def _upload_state_seed() -> bytes:
    state = State(url="s3://b", safe={"windows": "0-7"}, covered={"2026-11-22T00:00:00Z": {"windows": "3,5"}})
    state.lost = {"2026-11-22T00:00:00Z": {"windows": {4: 10}}}
    return msgspec.json.encode(state)


def _closed_file(directory: Path) -> Take:
    """What is uploaded of one closed file that is whatever comes."""
    start_ns = MIDNIGHT_NS + 3_600 * 10**9
    path = file_path(directory, "llc", "n", start_ns, RUN_ID, 0)
    path.parent.mkdir(parents=True)

    def take(content: bytes) -> None:
        path.write_bytes(content)
        relative = path.relative_to(directory)
        with suppress(ValueError):
            span = read_facts(directory, relative).span
            if span is not None:
                for merged in merge(directory, LLC, [Source(relative, span)], hour_of(span.first_us), new_file=BytesIO):
                    assert merged.rows

    return take


def _closed_file_seed() -> bytes:
    rows = example_rows(LLC, [MIDNIGHT_NS + 3_600 * 10**9 + second * 10**9 for second in range(20)])
    metadata = {"tracer.run_id": str(RUN_ID), "tracer.node_name": "node-1", "tracer.identifier": "n"}
    return bytes(encode_file(LLC, conform(LLC, rows), metadata))


def _recovery(directory: Path) -> Take:
    """A killed run whose manifest or journal is whatever comes; of its output nothing but its own is touched."""
    output = directory / "results"
    frames, manifest = _frames(), _manifest_seed()

    def take(content: bytes) -> None:
        journals = output / journal_directory(RUN_ID)
        journals.mkdir(parents=True)
        is_manifest = content[:1] == b"{"
        manifest_path(output, RUN_ID).write_bytes(content if is_manifest else manifest)
        journal = journals / "health-000000.journal"
        journal.write_bytes(frames[0] if is_manifest else content)
        found = recover(output)
        assert not found.unwritten, found.unwritten
        assert found.runs or found.problems or is_manifest
        again = recover(output)
        assert not again.runs or again.runs[0].problems
        assert {path.name for path in output.iterdir()} <= {"runs", "health"}
        for path in sorted(output.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()

    return take


def _ring_seeds() -> list[bytes]:
    record = np.zeros(1, TICK_RECORD)
    record["tick"], record["tick_count"], record["time_ns"] = 100, 1, 1000
    one = (record.itemsize).to_bytes(8, "little") + record.tobytes()
    record["tick_count"] = 300
    several = (record.itemsize).to_bytes(8, "little") + record.tobytes()
    record["tick_count"] = 0
    record["counters"] = (5_000_000, 9_000_000, 1)
    wait = (record.itemsize).to_bytes(8, "little") + record.tobytes()
    busy = (record.itemsize | BUSY).to_bytes(8, "little") + record.tobytes()
    return [
        (len(data)).to_bytes(8, "little") + data
        for data in (one, several, wait, one * 3 + several + wait, one + busy, one * (SIZE // STEP))
    ]


def _event_seeds() -> list[bytes]:
    record = RECORD.pack(12, 34, 1, 5) + b"/a/b/"
    one = len(record).to_bytes(8, "little") + record.ljust(32, b"\0")
    return [len(data).to_bytes(8, "little") + data for data in (one, one * 3)]


def _json(value: object) -> bytes:
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


_KEYED = [
    b"usage_usec 1234\nuser_usec 1000\nsystem_usec 234\nnr_periods 0\n",
    b"some avg10=0.00 avg60=1.25 avg300=0.00 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    b"8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n(unknown) rbytes=1\n",
    b"max 100000\n",
    b"anon 4096\nfile 8192\nunheard_of 7\n",
]

TARGETS = (
    Target("rings", _ring_seeds(), _rings, share=40),
    Target("event ring", _event_seeds(), _event_ring, share=4),
    Target("nri", _nri_seeds(), _nri, (NriError,), share=10),
    Target("runtime state", [_json(value) for value in _STATE_FILES.values()], _runtime_state, share=4),
    Target("pods of podman", [_sqlite_seed(), _bolt_seed()], _pods_of_podman, share=1),
    Target("cgroup files", _KEYED, _cgroup_files, share=6),
    Target("proc and names", _TEXTS, _texts, share=14),
    Target("topology", [b"0-3\n", b"1\n", b"event=0x3c,umask=0x01\n", b"10 21\n"], _topology,
           (NodeUnsupportedError,), share=1),
    Target("btf", [_btf_seed()], _btf, (NodeUnsupportedError,), share=6),
    Target("options", [b"1GiB", b"90s", b"cycles=r412e", b"llc_misses=software:cpu-clock", b"0-3",
                       b"wait-others(namespace=shop, pod=api*)>=7.5% for 500ms"], _options, share=8),
    Target("config", _CONFIGS, _config, (UsageError,), share=3),
    Target("metrics", _REQUESTS, _request, share=3),
    Target("datagrams of applications", _DATAGRAMS, _datagram, share=6),
    Target("expositions of applications", _EXPOSITIONS, _exposition, (MalformedError,), share=2),
    Target("journal", _frames(), _journal, (DamagedJournalError,), share=3),
    Target("manifest", [_manifest_seed()], _manifest, (UsageError,), share=3),
    Target("period", [_period_seed()], _period, (ValueError,), share=2),
    Target("upload state", [_upload_state_seed()], _upload_state, share=1),
    Target("closed file", [_closed_file_seed()], _closed_file, share=2),
    Target("recovery", [*_frames(), _manifest_seed()], _recovery, share=1),
)  # fmt: skip

assert HEADER_BYTES == 8
