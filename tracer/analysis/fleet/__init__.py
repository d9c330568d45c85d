# SPDX-License-Identifier: Apache-2.0
"""Questions on many nodes at once: sums by an engine over all files, then workloads instead of containers."""
