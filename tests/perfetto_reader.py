# SPDX-License-Identifier: Apache-2.0
"""A trace read back by Perfetto's own definition of its format, and by the rules that its documentation gives."""

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import BuiltinClock, Trace, TracePacket, TrackEvent


class Slice(NamedTuple):
    track: tuple[str, ...]
    name: str
    begin_ns: int
    end_ns: int
    annotations: dict[str, float]


class Read(NamedTuple):
    """What a trace says, by the names of tracks from the outermost on."""

    counters: dict[tuple[str, ...], list[tuple[int, float]]]
    slices: list[Slice]
    units: dict[tuple[str, ...], str]
    utc_minus_trace_ns: int


def assert_known(message: Message) -> None:
    """No field of this message or of those in it is unknown to Perfetto."""
    assert len(UnknownFieldSet(message)) == 0
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for one in value if field.is_repeated else [value]:
                assert_known(one)


def read_trace(path: Path) -> Read:
    """Follows the rules of the format: tracks before their events, names before their numbers, slices that end."""
    trace = Trace.FromString(path.read_bytes())
    assert trace.packet[0].sequence_flags == TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
    clocks = {clock.clock_id: clock.timestamp for clock in trace.packet[0].clock_snapshot.clocks}
    names: dict[int, str] = {}
    annotation_names: dict[int, str] = {}
    tracks: dict[int, tuple[str, ...]] = {}
    offset_ns = clocks[BuiltinClock.BUILTIN_CLOCK_REALTIME] - clocks[BuiltinClock.BUILTIN_CLOCK_BOOTTIME]
    read = Read(defaultdict(list), [], {}, offset_ns)
    open_slices: dict[int, Slice] = {}
    latest = 0
    for packet in trace.packet:
        assert_known(packet)
        assert packet.trusted_packet_sequence_id == 1
        for named in packet.interned_data.event_names:
            assert named.iid not in names
            names[named.iid] = named.name
        for named in packet.interned_data.debug_annotation_names:
            annotation_names[named.iid] = named.name
        if packet.HasField("track_descriptor"):
            track = packet.track_descriptor
            assert track.uuid
            assert track.uuid not in tracks
            assert track.sibling_merge_behavior == track.SIBLING_MERGE_BEHAVIOR_NONE
            outer = tracks[track.parent_uuid] if track.HasField("parent_uuid") else ()
            tracks[track.uuid] = (*outer, track.name)
            if track.HasField("counter"):
                read.units[tracks[track.uuid]] = track.counter.unit_name
        if not packet.HasField("track_event"):
            continue
        assert packet.timestamp >= latest
        latest = packet.timestamp
        event = packet.track_event
        track = tracks[event.track_uuid]
        if event.type == TrackEvent.TYPE_COUNTER:
            assert track in read.units
            read.counters[track].append((packet.timestamp, event.double_counter_value))
        elif event.type == TrackEvent.TYPE_SLICE_BEGIN:
            assert packet.sequence_flags == TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
            assert event.track_uuid not in open_slices
            annotations = {
                annotation_names[one.name_iid]: getattr(one, one.WhichOneof("value")) for one in event.debug_annotations
            }
            open_slices[event.track_uuid] = Slice(track, names[event.name_iid], packet.timestamp, 0, annotations)
        else:
            assert event.type == TrackEvent.TYPE_SLICE_END
            begun = open_slices.pop(event.track_uuid)
            read.slices.append(begun._replace(end_ns=packet.timestamp))
    assert not open_slices
    return read
