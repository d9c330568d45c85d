# SPDX-License-Identifier: Apache-2.0
"""Options of a run as they are typed, on the command line or in a TOML file, to what they mean."""

import math
import os
import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tracer.cli.file_or_stdout import require_directory
from tracer.cli.mistakes import of_option
from tracer.containers.nri import DEFAULT_SOCKET
from tracer.errors import UsageError
from tracer.suggestions import not_among

if TYPE_CHECKING:
    from tracer.pipeline.options import RecorderOptions, RunOptions

_LONGEST_CONFIG = 2**20


_MODE: Final = re.compile("0?6[04][04]")
_INGEST_MODE: Final = re.compile("0?6[06][06]")
# As Kubernetes calls nodes, and hosts are called.
_NODE_NAME: Final = re.compile(r"[!-~]{1,253}")


class Switch(StrEnum):
    """Whether something is done."""

    on = "on"
    off = "off"


class OnFull(StrEnum):
    """What to do when the results reach --keep, or the disk is full."""

    delete_oldest = "delete-oldest"
    stop = "stop"


def parse_options(given: dict[str, Any]) -> "RunOptions":
    """Options by their names on the command line, without the dashes. Raises UsageError."""
    from tracer.containers.runtime_state import state_directory
    from tracer.kernel.event_specs import parse_events
    from tracer.live.metrics.address import parse_address
    from tracer.pipeline.options import RunOptions
    from tracer.pipeline.users import parse_user
    from tracer.units import parse_bytes, parse_duration_ns

    for name, values in (("on-full", OnFull), ("waits", Switch)):
        if given[name] not in list(values):
            raise UsageError(f"--{name}: {not_among('value', given[name], list(values))}")
    require_directory(given["output"], option="--output")
    node_name = _node_name(given["node-name"])
    options = RunOptions(
        output=given["output"],
        duration_ns=None if given["duration"] is None else of_option("duration", given["duration"], parse_duration_ns),
        tick_ns=of_option("tick", given["tick"], parse_duration_ns),
        window_ticks=given["window"],
        rotate_ns=of_option("rotate", given["rotate"], parse_duration_ns),
        keep_bytes=None if given["keep"] == "none" else of_option("keep", given["keep"], parse_bytes),
        on_full=given["on-full"],
        sync=given["sync"],
        # One-millisecond data of the time before is what a recorder is for.
        ticks=given["ticks"] or given["recorder"] is not None,
        waits=given["waits"] == Switch.on,
        events=parse_events(given["event"] or []),
        identifier=node_name if given["identifier"] is None else given["identifier"],
        node_name=node_name,
        ring_bytes=None if given["ring-size"] is None else of_option("ring-size", given["ring-size"], parse_bytes),
        memory_limit_bytes=of_option("memory-limit", given["memory-limit"], parse_bytes),
        cpu_limit=None if given["cpu-limit"] is None else of_option("cpu-limit", given["cpu-limit"], _cpu_limit),
        nri_socket=_nri_socket(given["nri"]),
        containerd_states=tuple(map(state_directory, given["containerd-state"] or [])),
        resctrl=given["resctrl"],
        resctrl_mount=given["resctrl-mount"],
        resources_interval_ns=of_option("resources-interval", given["resources-interval"], parse_duration_ns),
        io=given["io"],
        processes_interval_ns=None
        if given["processes"] is None
        else of_option("processes", given["processes"], parse_duration_ns),
        processes_max_rss_bytes=of_option("processes-max-rss", given["processes-max-rss"], parse_bytes),
        regions=given["regions"],
        mode=_mode(given["mode"]),
        user=None if given["user"] is None else parse_user(given["user"]),
        metrics=None if given["metrics"] is None else of_option("metrics", given["metrics"], parse_address),
        socket=given["socket"],
        recorder=_recorder(given),
        ingest=None if given["ingest"] is None else Path(given["ingest"]),
        ingest_mode=_ingest_mode(given["ingest-mode"]),
        upload=given["upload"],
        upload_bytes_per_second=None
        if given["upload-rate"] is None
        else of_option("upload-rate", given["upload-rate"], parse_bytes),
    )
    options.check()
    return options


def read_config(path: Path, known: dict[str, Any]) -> dict[str, Any]:
    """Options of a TOML file. Raises UsageError for one that cannot be read, or has a name or type of its own."""
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_CONFIG + 1)
        if len(content) > _LONGEST_CONFIG:
            raise ValueError(f"it is longer than {_LONGEST_CONFIG} bytes")
        values = tomllib.loads(content.decode())
    except OSError as error:
        raise UsageError(f"cannot read --config {str(path)!r}: {error.strerror}") from error
    except RecursionError as error:
        raise UsageError(f"--config {str(path)!r} is not TOML that is read: it is nested too deeply") from error
    except ValueError as error:
        raise UsageError(f"--config {str(path)!r} is not TOML: {error}") from error
    if unknown := sorted(values.keys() - known.keys()):
        raise UsageError(f"--config {str(path)!r}: {not_among('option', unknown[0], known)}")
    for name, value in values.items():
        wanted: tuple[type, str] = {
            "window": (int, "a number"),
            "when": (list, "a list of strings"),
            "when-most": (int, "a number"),
            "ticks": (bool, "true or false"),
            "resctrl-mount": (bool, "true or false"),
            "io": (bool, "true or false"),
            "sync": (bool, "true or false"),
            "regions": (bool, "true or false"),
            "quiet": (bool, "true or false"),
            "report": (bool, "true or false"),
            "event": (list, "a list of strings"),
            "containerd-state": (list, "a list of strings"),
        }.get(name, (str, "a string"))
        texts_only = not isinstance(value, list) or all(isinstance(item, str) for item in value)
        if type(value) is not wanted[0] or not texts_only:
            raise UsageError(f"--config {str(path)!r}: {name} must be {wanted[1]}")
    values["output"] = Path(values.get("output", known["output"]))
    return values


def _recorder(given: dict[str, Any]) -> "RecorderOptions | None":
    """Raises UsageError."""
    from tracer.pipeline.options import RecorderOptions
    from tracer.units import parse_duration_ns

    if given["recorder"] is None:
        if given["when"]:
            raise UsageError("--when needs --recorder: it says of how much time the recorder keeps the data")
        return None
    return RecorderOptions(
        keep_ns=of_option("recorder", given["recorder"], parse_duration_ns),
        after_ns=of_option("after", given["after"], parse_duration_ns),
        when=tuple(given["when"] or ()),
        every_ns=of_option("when-every", given["when-every"], parse_duration_ns),
        most_an_hour=given["when-most"],
    )


def _cpu_limit(text: str) -> float:
    """Of one core. Raises UsageError."""
    if text == "none":
        return math.inf
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)%", text)
    if match is None:
        raise UsageError(f"not a share of a core: {text!r} (examples: 10%, 150%, none)")
    return float(match[1]) / 100


def _mode(text: str) -> int:
    """Raises UsageError for what is no mode of files that only their owner writes."""
    if not _MODE.fullmatch(text):
        raise UsageError(f"--mode must be 600, 640, 644 or 604: who may read the results, not {text!r}")
    return int(text, 8)


def _ingest_mode(text: str) -> int:
    """Raises UsageError for what is no mode of a socket."""
    if not _INGEST_MODE.fullmatch(text):
        raise UsageError(f"--ingest-mode must be 600, 660 or 666: who may send to the socket, not {text!r}")
    return int(text, 8)


def _node_name(text: str | None) -> str:
    if text is None:
        return os.uname().nodename
    if not _NODE_NAME.fullmatch(text):
        raise UsageError(f"--node-name must be 1 to 253 printable characters without blanks, not {text!r}")
    return text


def _nri_socket(text: str) -> Path | None:
    """Raises UsageError for what is neither `auto`, `off` nor an absolute path."""
    if text == "off":
        return None
    if text == "auto":
        return DEFAULT_SOCKET
    if not text.startswith("/"):
        raise UsageError(f"--nri must be auto, off or the absolute path of a socket, not {text!r}")
    return Path(text)
