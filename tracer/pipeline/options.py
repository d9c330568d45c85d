# SPDX-License-Identifier: Apache-2.0
"""What a run is asked to do, checked before anything starts."""

import os
from pathlib import Path
from typing import Literal

import msgspec

from tracer.errors import UsageError
from tracer.kernel.event_specs import EventSpec
from tracer.live.metrics.address import Address
from tracer.pipeline.users import User
from tracer.recorder.rules import parse_rules
from tracer.store.directories import FILE_MODE
from tracer.store.layout import partition_value
from tracer.store.object_urls import check_target
from tracer.units import format_bytes

_US = 1_000
_MS = 1_000_000
TICK_BOUNDS_NS = (_MS // 2, 100 * _MS)
# `ticks` and `active_ticks` of a window are 16 bits wide.
WINDOW_BOUNDS_TICKS = (1, 65_535)
# The ticks of a window are held until it closes: about 60 bytes for each CPU, tick and cgroup.
_LONGEST_WINDOW_NS = 10_000 * _MS
_SHORTEST_ROTATION_NS = 1_000 * _MS
_LEAST_KEEP_BYTES = 1 << 20
_SHORTEST_RESOURCES_NS = 100 * _MS
_SHORTEST_PROCESSES_NS = 1_000 * _MS
RING_BOUNDS_BYTES = (1 << 12, 1 << 30)
DEFAULT_MEMORY_BYTES = 512 << 20
# With the least, a run of few containers leaves out what it can.
LEAST_MEMORY_BYTES = 256 << 20
_LEAST_CPU_LIMIT = 0.01
_LEAST_UPLOAD_RATE = 10 << 10


_SHORTEST_RECORDER_NS = 10_000 * _MS
_LONGEST_RECORDER_NS = 3_600_000 * _MS
_LONGEST_AFTER_NS = 3_600_000 * _MS


# Who may reach it is said by who mounts it into which container; see docs/decisions/.
INGEST_MODE = 0o666
_LONGEST_SOCKET_PATH = 90


def _host_name() -> str:
    return os.uname().nodename


class RecorderOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Of `--recorder`: how far back it goes, how long it goes on after an occasion, and what one is."""

    keep_ns: int
    after_ns: int
    when: tuple[str, ...]
    """Rules, as `tracer.recorder.rules` reads them."""
    every_ns: int
    """One rule is heard once in it."""
    most_an_hour: int

    def check(self) -> None:
        """Raises UsageError for a value out of its bounds."""
        if not _SHORTEST_RECORDER_NS <= self.keep_ns <= _LONGEST_RECORDER_NS:
            raise UsageError("--recorder must be between 10s and 1h")
        if not 0 <= self.after_ns <= _LONGEST_AFTER_NS:
            raise UsageError("--after must be at most 1h")
        parse_rules(self.when)
        if self.every_ns > _LONGEST_RECORDER_NS:
            raise UsageError("--when-every must be at most 1h")
        if not 1 <= self.most_an_hour <= 1000:
            raise UsageError("--when-most must be between 1 and 1000")


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `tracer run`; times in ns, sizes in bytes. None: the run chooses, or there is no bound.

    resctrl: `auto`, `off`, or where it is mounted. cpu_limit: of one core; infinite for no bound. user: whom the
    process turns into. mode: of files of results. metrics: where they are served, if they are. ingest: where
    applications are heard, if they are, on sockets of `ingest_mode`. upload: the URL of an object store, which has been
    checked.
    """

    output: Path
    duration_ns: int | None
    tick_ns: int
    window_ticks: int
    rotate_ns: int
    keep_bytes: int | None
    on_full: Literal["delete-oldest", "stop"]
    sync: bool
    ticks: bool
    waits: bool
    events: tuple[EventSpec, ...]
    identifier: str
    node_name: str = msgspec.field(default_factory=_host_name)
    ring_bytes: int | None
    memory_limit_bytes: int
    cpu_limit: float | None
    nri_socket: Path | None
    containerd_states: tuple[Path, ...]
    resctrl: str
    resctrl_mount: bool
    resources_interval_ns: int
    io: bool
    processes_interval_ns: int | None
    processes_max_rss_bytes: int
    regions: bool
    user: User | None = None
    mode: int = FILE_MODE
    metrics: Address | None = None
    socket: str = "off"
    recorder: RecorderOptions | None = None
    ingest: Path | None = None
    ingest_mode: int = INGEST_MODE
    upload: str | None = None
    upload_bytes_per_second: int | None = None

    def check(self) -> None:
        """Raises UsageError for a value out of its bounds."""
        low, high = TICK_BOUNDS_NS
        if not low <= self.tick_ns <= high:
            raise UsageError("--tick must be between 0.5ms and 100ms")
        # Times of ticks are rounded to microseconds: so all of a run are by the same part of one.
        if self.tick_ns % _US:
            raise UsageError("--tick must be a whole number of microseconds")
        low, high = WINDOW_BOUNDS_TICKS
        if not low <= self.window_ticks <= high:
            raise UsageError(f"--window must be between {low} and {high} ticks")
        if self.window_ticks * self.tick_ns > _LONGEST_WINDOW_NS:
            raise UsageError("--window times --tick must not be longer than 10s")
        if self.duration_ns is not None and self.duration_ns < self.tick_ns:
            raise UsageError("--duration must be at least one tick")
        if self.rotate_ns < _SHORTEST_ROTATION_NS:
            raise UsageError("--rotate must be at least 1s")
        if self.keep_bytes is not None and self.keep_bytes < _LEAST_KEEP_BYTES:
            raise UsageError("--keep must be at least 1MiB")
        if self.ring_bytes is not None:
            low, high = RING_BOUNDS_BYTES
            if not low <= self.ring_bytes <= high or self.ring_bytes & (self.ring_bytes - 1):
                raise UsageError("--ring-size must be a power of two between 4KiB and 1GiB")
        if self.memory_limit_bytes < LEAST_MEMORY_BYTES:
            raise UsageError(f"--memory-limit must be at least {format_bytes(LEAST_MEMORY_BYTES)}")
        if self.cpu_limit is not None and not self.cpu_limit >= _LEAST_CPU_LIMIT:
            raise UsageError(f"--cpu-limit must be at least {_LEAST_CPU_LIMIT:.0%} of a core")
        if self.resources_interval_ns < _SHORTEST_RESOURCES_NS:
            raise UsageError("--resources-interval must be at least 100ms")
        if self.processes_interval_ns is not None and self.processes_interval_ns < _SHORTEST_PROCESSES_NS:
            raise UsageError("--processes must be at least 1s")
        if self.regions and self.processes_interval_ns is None:
            raise UsageError("--regions needs --processes: it says how often they are read")
        if self.resctrl not in ("auto", "off") and not self.resctrl.startswith("/"):
            raise UsageError(
                f"--resctrl must be auto, off or the absolute path where it is mounted, not {self.resctrl!r}"
            )
        if self.resctrl_mount and self.resctrl != "auto":
            raise UsageError("--resctrl-mount needs --resctrl auto")
        if self.resctrl_mount and self.user is not None and self.user.uid != 0:
            raise UsageError("--resctrl-mount needs root to the end: it cannot be with --user")
        if self.socket not in ("auto", "off") and not self.socket.startswith("/"):
            raise UsageError(f"--socket must be auto, off or the absolute path of a socket, not {self.socket!r}")
        if self.ingest is not None and not (
            self.ingest.is_absolute()
            and str(self.ingest).isprintable()
            and len(os.fsencode(self.ingest)) <= _LONGEST_SOCKET_PATH
        ):
            raise UsageError(
                f"--ingest must be the absolute path of a socket, of at most {_LONGEST_SOCKET_PATH} bytes, "
                f"not {str(self.ingest)!r}"
            )
        partition_value(self.identifier)
        if self.upload_bytes_per_second is not None:
            if self.upload is None:
                raise UsageError("--upload-rate needs --upload: it says how fast that may be")
            if self.upload_bytes_per_second < _LEAST_UPLOAD_RATE:
                raise UsageError("--upload-rate must be at least 10KiB a second")
        if self.upload is not None:
            check_target(self.upload, self.output)
        if self.recorder is not None:
            self.recorder.check()
