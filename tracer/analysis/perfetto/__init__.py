# SPDX-License-Identifier: Apache-2.0
"""Recordings as traces for the Perfetto UI.

export.py       a recording to a file, a stretch of time after the other
tracks.py       which tracks there are, and their names
events.py       rows of the tables to events on tracks
trace_file.py   events to Perfetto's format
"""

from tracer.analysis.perfetto.export import Exported, export_perfetto

__all__ = ["Exported", "export_perfetto"]
