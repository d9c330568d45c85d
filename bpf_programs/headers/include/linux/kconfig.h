/* SPDX-License-Identifier: GPL-2.0-only */
/* BCC includes this first; the kernel's own would bring the node's whole configuration. */
#ifndef TRACER_LINUX_KCONFIG_H
#define TRACER_LINUX_KCONFIG_H

#define CONFIG_64BIT 1
#define CONFIG_BPF_SYSCALL 1

#endif
