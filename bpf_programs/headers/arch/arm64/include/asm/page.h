/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef TRACER_ASM_PAGE_H
#define TRACER_ASM_PAGE_H

#define PAGE_SIZE 4096

#endif
