"""Doors: servers of other protocols' methods, so that those protocols' clients reach this recogniser unchanged.

A door translates requests and results, and decides nothing. Its methods go through the same guard as those of
`carryover.v1` (keys, quotas, limits, drain, metrics, logs, traces), and what they ask for is done by the same service.
A field that cannot be honoured is accepted without effect where every client sends it, and refused by its name
otherwise; docs/doors.md has all of them.
"""
