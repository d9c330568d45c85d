# SPDX-License-Identifier: Apache-2.0
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from manifest_examples import RUN_ID, example_manifest
from store_examples import files_below, new_store

from tracer.errors import UsageError
from tracer.store.manifest import (
    Instant,
    Step,
    encode_manifest,
    read_manifest,
)


def test_what_is_written_can_be_read(tmp_path: Path):
    store = new_store(tmp_path, run_id=RUN_ID)
    manifest = example_manifest()
    store.write_manifest(manifest)
    assert files_below(tmp_path) == [f"runs/{RUN_ID}/session.json"]
    read = read_manifest(tmp_path / "runs" / str(RUN_ID) / "session.json")
    change = msgspec.structs.replace(
        manifest.topology_changes[0], topology={"llc": [{"size_bytes": 32 << 20, "cpus": [0]}]}
    )
    topology = {"llc": [{"size_bytes": 32 << 20, "cpus": [0, 1]}]}
    assert read == msgspec.structs.replace(manifest, topology=topology, topology_changes=[change])


def test_a_later_manifest_replaces_the_earlier(tmp_path: Path):
    store = new_store(tmp_path, run_id=RUN_ID)
    store.write_manifest(example_manifest())
    end = Instant.of(1_795_312_085 * 10**9)
    store.write_manifest(example_manifest(status="finished", exit_reason="duration", end=end, last_tick=9))
    read = read_manifest(tmp_path / "runs" / str(RUN_ID) / "session.json")
    assert (read.status, read.exit_reason, read.end, read.last_tick) == ("finished", "duration", end, 9)
    assert files_below(tmp_path) == [f"runs/{RUN_ID}/session.json"]


def test_a_manifest_written_before_some_fields_were_there_can_be_read():
    read = read_manifest(Path(__file__).parent / "data" / "session-before-topology-changes.json")
    assert read.topology["llc_domains"][0]["cpus"] == "0-1"
    assert read.schema_version == 1
    assert read.topology_changes == []
    assert [event.encodings for event in read.events] == [{}, {}, {}]
    assert read.totals.records == 6757


def test_instants_keep_every_nanosecond():
    assert Instant.of(1_795_312_075_000_000_001).utc == "2026-11-22T01:47:55.000000001Z"


def test_it_is_json_for_others():
    decoded = json.loads(encode_manifest(example_manifest()))
    assert decoded["schema_version"] == 2
    assert decoded["run_id"] == str(RUN_ID)
    assert decoded["totals"]["lost_by_cpu"] == {"1": {"ring_full": 3}}
    assert decoded["totals"]["recursion_misses"] is None


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_can_be_written(text: str):
    encoded = encode_manifest(example_manifest(configuration={text: [text]}, notes=[text]))
    assert json.loads(encoded)["notes"] == [text.encode("utf-8", "backslashreplace").decode()]


def changed(**changes: Any) -> bytes:
    return json.dumps(json.loads(encode_manifest(example_manifest())) | changes).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"schema_version": 1}',
        b'{"schema_version": "1"}',
        b'{"schema_version": 1e400}',
        b'{"schema_version":1,"topology":' + b"[" * 200_000,
        changed(schema_version=0),
        changed(schema_version=3),
        changed(run_id="../../etc"),
        changed(status="unheard of"),
        changed(tick_ns=0),
        changed(window_ticks="60"),
        changed(first_tick=-1),
        changed(surprise=True),
        changed(totals={"rows": {"windows": -1}}),
        changed(totals={"lost_by_cpu": {"x": {}}}),
        changed(events=[{"column": "cpu_time_ns"}]),
        encode_manifest(example_manifest())[:-20],
    ],
)
def test_hostile_content_is_refused_in_one_line(tmp_path: Path, content: bytes):
    path = tmp_path / "session.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"session\.json") as failure:
        read_manifest(path)
    assert "\n" not in str(failure.value)


def test_hostile_files_are_refused(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**40)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (
        tmp_path / "missing",
        tmp_path,
        tmp_path / "pipe",
        tmp_path / "huge",
        tmp_path / "loop",
        tmp_path / "a\0b",
        tmp_path / ("x" * 300),
        Path("/dev/zero"),
    ):
        with pytest.raises(UsageError) as failure:
            read_manifest(path)
        assert "\n" not in str(failure.value)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail_otherwise(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path = tmp_path_factory.getbasetemp() / "session.json"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        read_manifest(path)


def test_the_times_of_a_run_whose_clock_was_set_lie_between_bounds() -> None:
    manifest = example_manifest(end=Instant.of(1_795_312_000 * 10**9))

    def step(at: int, seconds: int) -> Step:
        anchor = msgspec.structs.replace(manifest.clock.start, anchor_realtime_ns=at * 10**9)
        return Step(after_monotonic_ns=1, step_ns=seconds * 10**9, anchor=anchor)

    # Forward by an hour and back by two: the end is before the start.
    steps = [step(1_795_315_680, 3_600), step(1_795_308_490, -7_200)]
    stepped = msgspec.structs.replace(manifest, clock=msgspec.structs.replace(manifest.clock, steps=steps))
    assert stepped.utc_bounds_ns == (1_795_308_490 * 10**9, 1_795_315_690 * 10**9)
    assert msgspec.structs.replace(stepped, end=None).utc_bounds_ns == (1_795_308_490 * 10**9, None)
    assert example_manifest(end=None).utc_bounds_ns == (1_795_312_075_000_000_001, None)
