/* SPDX-License-Identifier: GPL-2.0-only */
/* Only BCC's kprobe programs must carry the true version; the tracer has none. */
#ifndef TRACER_LINUX_VERSION_H
#define TRACER_LINUX_VERSION_H

#define KERNEL_VERSION(major, minor, patch) (((major) << 16) + ((minor) << 8) + (patch))
#define LINUX_VERSION_CODE KERNEL_VERSION(5, 10, 0)

#endif
