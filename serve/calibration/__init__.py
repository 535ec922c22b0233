"""Calibration: measures the live engine on this machine, under its own load, into a Profile.

Read `design` first (what is sent: episodes of closed-loop clients, pure), then `rig` (the engine
under test and the generator that drives it), `samples` (from the engine's logs to one row a batch) and
`fit` (from samples to the numbers of a Profile). `serve.benchmark` puts them together; docs/calibration.md
says how each number is measured and why.
"""
