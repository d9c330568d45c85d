/* SPDX-License-Identifier: GPL-2.0-only */
/* BCC embeds the BPF definitions that it was built with: take those. */
#include <bcc/bpf.h>
