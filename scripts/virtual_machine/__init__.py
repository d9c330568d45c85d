# SPDX-License-Identifier: Apache-2.0
"""Guests made of Debian's packages, in QEMU: other kernels, other processors, other topologies than the machine's."""
