# SPDX-License-Identifier: Apache-2.0
"""Cache and memory bandwidth of containers, from the kernel's resctrl file system (Intel RDT, AMD QoS, Arm MPAM).

reader.py        the rows of the `llc` table
placing.py       which container is in which group
gathering.py     the threads of a container, all of them into one group
group.py         one monitoring group: its threads, its values, its end
file_system.py   what the file system offers, and which groups there are
ownership.py     the names of the tracer's own groups, and whose run they are of
values.py        what a file says, and what a counter counted since it was read last
mounting.py      the mount, where the tracer was told to make it

The kernel's side is described in Documentation/filesystems/resctrl.rst and stands in fs/resctrl/ (before Linux 6.16 in
arch/x86/kernel/cpu/resctrl/).
"""
