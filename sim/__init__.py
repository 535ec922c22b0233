"""The simulator: predicts what a deployment would do under a workload, by the engine's own rules.

Read first: `plane` (what both simulators are given, do and return), `reference` (the production
scheduler under SimPy's clock), `simulate` (from a Scenario to a Result). Then `kernel` and
`dataplane` (the same decisions, compiled), `service` (from measured samples to service times),
`measures` (metrics of simulated and of live runs alike), `intervals` and `verdict` (what may be said).
"""
