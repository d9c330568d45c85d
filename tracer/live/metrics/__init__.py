# SPDX-License-Identifier: Apache-2.0
"""The running totals for Prometheus: `tracer run --metrics`.

address.py     where to listen, as it is typed
server.py      the few words of HTTP that are understood, with a bound on all of it
answering.py   which path is answered by what
exposition.py  a snapshot as families of the two text formats
series.py      every series: its name, unit and meaning
ledger.py      what each container's series have come to, and which have series of their own
pairs.py       the same of victims and holders
slots.py       who has one of few places, without changing them back and forth
"""
