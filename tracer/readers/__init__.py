# SPDX-License-Identifier: Apache-2.0
"""Readers: what the kernel's files say of each cgroup, about once a second. `protocol` has the shape of them all."""
