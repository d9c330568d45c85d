# SPDX-License-Identifier: Apache-2.0
"""tracer: which container slows down which other, when, and by how much."""

__version__ = "0.1.0"
