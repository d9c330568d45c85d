# SPDX-License-Identifier: Apache-2.0
"""A node in which no formula says how much one container slows down another: `tracer simulate --machine physical`.

scenarios.py  the named ones, drawn at random
cast.py       who is on a node, and what it is made of
workload.py   what a scenario is made of
events.py     when jobs begin
plan.py       a scenario as arrays
engine.py     tick by tick: what work arrives, and what is done
placing.py    who runs in a tick, on which CPU
slices.py     what cores and memory do in it
cache.py      last-level caches, line by line in the mean
draws.py      random numbers that do not depend on who else draws
node.py       a run as blocks of ticks, and again without somebody
truth.py      `truth.json`: what the run without it shows
"""
