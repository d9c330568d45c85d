# SPDX-License-Identifier: Apache-2.0
"""What the simulated node is made of: CPUs, SMT siblings and last-level caches."""

import msgspec
import numpy as np
import numpy.typing as npt

from tracer.errors import UsageError
from tracer.kernel.cpus import format_cpu_list
from tracer.kernel.topology import Topology
from tracer.kernel.topology.caches import LlcDomain
from tracer.kernel.topology.groups import CpuGroup
from tracer.kernel.topology.memory import Memory
from tracer.kernel.topology.processor import CpuModel, Machine
from tracer.kernel.topology.resctrl import Resctrl
from tracer.kernel.topology.settings import KernelSettings

_MOST_CPUS = 256
_MEMORY_OF_CPU_BYTES = 4 * 2**30


class NodeShape(msgspec.Struct, frozen=True, kw_only=True):
    """CPUs are numbered domain by domain, and within a domain core by core.

    A miss of the last-level cache moves `line_bytes`.
    """

    cpus: int = 8
    llc_domains: int = 2
    smt: bool = True
    frequency_ghz: float = 3.0
    llc_bytes: int = 16 * 2**20
    line_bytes: int = 64

    def check(self) -> None:
        """Raises UsageError for a node that cannot be."""
        if not 1 <= self.cpus <= _MOST_CPUS:
            raise UsageError(f"--cpus must be between 1 and {_MOST_CPUS}")
        if not 1 <= self.llc_domains <= self.cpus or self.cpus % self.llc_domains:
            raise UsageError(f"--llc-domains must divide the {self.cpus} CPUs evenly, not {self.llc_domains}")
        if self.smt and self.cpus_of_domain % 2:
            raise UsageError("with --smt each LLC domain has whole cores of two CPUs; use --no-smt or other numbers")

    @property
    def cpus_of_domain(self) -> int:
        """CPUs behind each last-level cache."""
        return self.cpus // self.llc_domains

    def domain_of_cpu(self) -> npt.NDArray[np.int64]:
        """By CPU, the number of its last-level cache."""
        return np.arange(self.cpus) // self.cpus_of_domain

    def sibling_of_cpu(self) -> npt.NDArray[np.int64] | None:
        """By CPU, the other CPU of its core; None without SMT."""
        return np.arange(self.cpus) ^ 1 if self.smt else None

    def order_of_domain(self, domain: int) -> npt.NDArray[np.int64]:
        """The domain's CPUs, one of each core first, as a scheduler fills them."""
        cpus = np.arange(domain * self.cpus_of_domain, (domain + 1) * self.cpus_of_domain)
        return np.concatenate([cpus[::2], cpus[1::2]]) if self.smt else cpus

    def topology(self) -> Topology:
        """The node in the words of a manifest; what a simulated node does not have is None."""
        every = format_cpu_list(range(self.cpus))
        cores = [range(cpu, cpu + 2) for cpu in range(0, self.cpus, 2)] if self.smt else [[c] for c in range(self.cpus)]
        domains = [range(first, first + self.cpus_of_domain) for first in range(0, self.cpus, self.cpus_of_domain)]
        return Topology(
            cpu_model=CpuModel(None, None, None, None, "simulated", None, "none"),
            machine=Machine("tracer", "simulated node"),
            possible=every,
            online=every,
            offline="",
            isolated=None,
            nohz_full=None,
            smt_active=self.smt,
            smt_control="on" if self.smt else "notsupported",
            packages=[CpuGroup(every, 0)],
            dies=None,
            clusters=None,
            cores=[CpuGroup(format_cpu_list(core), number) for number, core in enumerate(cores)],
            llc_domains=[
                LlcDomain(
                    cpus=format_cpu_list(cpus),
                    level=3,
                    size_bytes=self.llc_bytes,
                    ways=16,
                    line_bytes=self.line_bytes,
                    sysfs_id=number,
                )
                for number, cpus in enumerate(domains)
            ],
            numa_nodes=None,
            memory=Memory(self.cpus * _MEMORY_OF_CPU_BYTES, 0, 4096, None),
            turbo=None,
            frequency_policies=None,
            pmus=[],
            resctrl=Resctrl(state="not supported"),
            settings=KernelSettings(None, None, None),
        )
