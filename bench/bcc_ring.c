// SPDX-License-Identifier: GPL-2.0-only
/* The ring of bench/ring_drain.py, made by BCC so that BCC's own reader can open it. 1 MiB, as in a run. */
BPF_RINGBUF_OUTPUT(ring, 256);
