# SPDX-License-Identifier: Apache-2.0
"""The only code that touches BPF, perf events, /proc/sys and sysfs topology."""
