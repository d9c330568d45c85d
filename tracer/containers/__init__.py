# SPDX-License-Identifier: Apache-2.0
"""Who a cgroup is: cgroup2 mounts, paths, the walk, the inventory."""
