# SPDX-License-Identifier: Apache-2.0
"""The experiment behind `tracer verify`: pause a suspect for moments chosen at random, and look what its victim does.

`cgroup_control` pauses and restores, `state_file` remembers what has to be restored, `pulser` is the process that does
it and outlives its parent. `schedule` draws the moments, `randomisation` needs nothing else for its intervals. `naming`
and `protection` say whom it may concern, `experiment` joins it with a run of the tracer, `outcome` says what came out.
"""
