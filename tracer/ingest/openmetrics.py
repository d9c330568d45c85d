# SPDX-License-Identifier: Apache-2.0
"""Text of OpenMetrics and Prometheus as applications push it, by the parsers of prometheus-client.

What ends with `# EOF` is OpenMetrics, which is stricter; the rest is Prometheus' older format. All but gauges are
totals since the sender's start, and are kept as that.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from tracer.ingest.messages import LONGEST_TAGS, Kind, MalformedError, Message, checked_name

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

END: Final = b"# EOF"
_GAUGES: Final = ("gauge", "unknown", "untyped", "info", "stateset", "gaugehistogram")


def parse_exposition(text: bytes) -> Iterator[Message | None]:
    """One for each sample, at most; None for one that is no number, as a quantile of nothing. Raises MalformedError."""
    # Of what a run does not need without it.
    from prometheus_client import parser as older
    from prometheus_client.openmetrics import parser

    try:
        decoded = text.decode()
        is_open = decoded.rstrip("\n").endswith(END.decode())
        parse = parser.text_string_to_metric_families if is_open else older.text_string_to_metric_families
        for family in parse(decoded):
            kind: Kind = "gauge" if family.type in _GAUGES else "cumulative"
            for sample in family.samples:
                yield _message(sample, "gauge" if "quantile" in sample.labels else kind)
    except MalformedError:
        raise
    # A parser of others' text raises what it comes across.
    except Exception as error:
        raise MalformedError(f"no exposition: {type(error).__name__}") from error


def _message(sample: "Sample", kind: Kind) -> Message | None:
    value = float(sample.value)
    if not math.isfinite(value):
        return None
    tags = ",".join(f"{name}:{label}" for name, label in sample.labels.items())
    if len(tags) > LONGEST_TAGS or not tags.isprintable():
        raise MalformedError("labels")
    time_s = None if sample.timestamp is None else float(sample.timestamp)
    return Message(checked_name(sample.name), kind, (value,), tags=tags or None, time_s=time_s)
