# SPDX-License-Identifier: Apache-2.0
"""Tracks and events in Perfetto's format: https://perfetto.dev/docs/reference/synthetic-track-event.

A trace is a sequence of packets, so that parts of it can be written one after the other. All are of one packet
sequence, on which each name is said once and then goes by a number. The trace's clock is UTC.
"""

from collections.abc import Mapping
from typing import BinaryIO, Final

from tracer.analysis.perfetto.messages_pb2 import Trace, TrackDescriptor, TrackEvent

_SEQUENCE: Final = 1
_STATE_CLEARED: Final = 1
_STATE_NEEDED: Final = 2
_REALTIME: Final = 1
_BOOTTIME: Final = 6
_PACKETS_AT_ONCE: Final = 4_096


class TraceFile:
    """Writes packets to `file`, a few thousand at a time. Times are UTC, ns since the epoch."""

    def __init__(self, file: BinaryIO, start_ns: int) -> None:
        self.packets = 0
        self.tracks = 0
        self._file = file
        self._names: dict[str, int] = {}
        self._annotation_names: dict[str, int] = {}
        self._trace = Trace()
        first = self._trace.packet.add(
            timestamp=start_ns, trusted_packet_sequence_id=_SEQUENCE, sequence_flags=_STATE_CLEARED
        )
        # Perfetto's own clock is that of the kernel since boot. Here it shows the same as the clock on the wall.
        for clock in (_BOOTTIME, _REALTIME):
            first.clock_snapshot.clocks.add(clock_id=clock, timestamp=start_ns)

    def add_track(self, name: str, *, rank: int = 0, parent: int | None = None, unit: str | None = None) -> int:
        """A new track's number. Those with the same parent are shown by rank; with a `unit`, it holds a counter."""
        self.tracks += 1
        descriptor = TrackDescriptor(
            uuid=self.tracks,
            name=name,
            parent_uuid=parent,
            sibling_order_rank=rank,
            child_ordering=TrackDescriptor.ChildTracksOrdering.EXPLICIT,
            # A container that was started anew may have the name of the one before.
            sibling_merge_behavior=TrackDescriptor.SiblingMergeBehavior.SIBLING_MERGE_BEHAVIOR_NONE,
        )
        if unit is not None:
            descriptor.counter.unit_name = unit
        self._trace.packet.add(trusted_packet_sequence_id=_SEQUENCE, track_descriptor=descriptor)
        self._flush_if_many()
        return self.tracks

    def count(self, time_ns: int, track: int, value: float) -> None:
        """The counter has this value from then on."""
        packet = self._trace.packet.add(timestamp=time_ns, trusted_packet_sequence_id=_SEQUENCE)
        event = packet.track_event
        event.type = TrackEvent.TYPE_COUNTER
        event.track_uuid = track
        event.double_counter_value = value
        self._flush_if_many()

    def begin(self, time_ns: int, track: int, name: str, annotations: Mapping[str, int | float]) -> None:
        """A slice begins. Those of a track end before the next one begins."""
        packet = self._trace.packet.add(
            timestamp=time_ns, trusted_packet_sequence_id=_SEQUENCE, sequence_flags=_STATE_NEEDED
        )
        event = packet.track_event
        event.type = TrackEvent.TYPE_SLICE_BEGIN
        event.track_uuid = track
        if name not in self._names:
            self._names[name] = len(self._names) + 1
            packet.interned_data.event_names.add(iid=self._names[name], name=name)
        event.name_iid = self._names[name]
        for key, value in annotations.items():
            if key not in self._annotation_names:
                self._annotation_names[key] = len(self._annotation_names) + 1
                packet.interned_data.debug_annotation_names.add(iid=self._annotation_names[key], name=key)
            annotation = event.debug_annotations.add(name_iid=self._annotation_names[key])
            if isinstance(value, int):
                annotation.uint_value = value
            else:
                annotation.double_value = value
        self._flush_if_many()

    def end(self, time_ns: int, track: int) -> None:
        """The track's slice ends."""
        packet = self._trace.packet.add(timestamp=time_ns, trusted_packet_sequence_id=_SEQUENCE)
        packet.track_event.type = TrackEvent.TYPE_SLICE_END
        packet.track_event.track_uuid = track
        self._flush_if_many()

    def flush(self) -> None:
        """Hands on all that is left. Raises OSError."""
        self.packets += len(self._trace.packet)
        # Messages one after the other are one message.
        self._file.write(self._trace.SerializeToString())
        self._trace = Trace()

    def _flush_if_many(self) -> None:
        if len(self._trace.packet) >= _PACKETS_AT_ONCE:
            self.flush()
