# SPDX-License-Identifier: Apache-2.0
"""Whether this node can run the tracer: the checks of `tracer doctor`, which `tracer run` makes before it starts.

The room joins `kernel`, `containers`, `readers` and `store`; `cli` and `pipeline` import it. A check tries the very
thing the run needs, by the code the run uses, and never asks for the kernel's version.

    checks.py      what a check is and finds, the verdict
    probes.py      how a check is made, and the trial run they share
    files.py       the kernel's small text files
    node.py        processor, privileges, cgroup2, limits, and what is only good to know
    counters.py    the tick, the PMU and the counter events
    programs.py    BPF, BCC, and the tracer's own programs, loaded for real
    storage.py     the output directory
    doctor.py      all of them in order: `run_checks`, `require_runnable`, `explain_load_failure`
"""
