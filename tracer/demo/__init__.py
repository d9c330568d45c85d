# SPDX-License-Identifier: Apache-2.0
"""Two containers that compete for a CPU, for `tracer demo`: real cgroups and processes, all gone at the end."""
