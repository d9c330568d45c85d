# SPDX-License-Identifier: Apache-2.0
"""Recordings in an object store: found by their layout, never by a recursive listing."""
