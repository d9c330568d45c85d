# SPDX-License-Identifier: Apache-2.0
"""What the node is made of, from sysfs and /proc, as it stands in a run's session.json.

The list of CPUs is the identity of a package, die, core or cache; the numbers the kernel gives them are
attributes only: core ids repeat between packages, cache ids are missing or wrong on some virtual machines. A
value that cannot be read is None, never 0. Offline CPUs have no topology, and lists of siblings name online
CPUs only, so after a CPU came or went the topology is to be read again.

    node.py        all of it: `Topology`, `read_topology`
    groups.py      packages, dies, clusters and cores
    caches.py      last-level caches
    memory.py      memory and NUMA nodes
    processor.py   the processor's model, the machine it is in, the hypervisor
    frequency.py   who sets the clock, and its bounds
    pmu.py         the core PMUs, and what their events really count
    resctrl.py     limits of the resctrl file system
    settings.py    settings of the kernel that bear on what is measured
    nesting.py     which of these lies within which
    files.py       the small text files all of it is in
"""

from tracer.kernel.topology.node import Topology, llc_domain_of_cpu, read_topology

__all__ = ["Topology", "llc_domain_of_cpu", "read_topology"]
