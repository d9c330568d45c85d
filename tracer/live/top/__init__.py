# SPDX-License-Identifier: Apache-2.0
"""What `tracer top` shows: rates from snapshots, and a screen of them that needs no terminal."""
