"""The bill of a simulated fleet: from what a run used and what things cost (`usage`, `prices`, `commitments`).

Read `bill` first, then `coverage` (who pays for an hour of on-demand usage) and `attribution` (whose cost
it is). `charges` writes the lines of an hour, `lines` names their columns, `hours` cuts time into
clock-hours, `bound` says what no fleet could better, `energy` counts kWh. All are pure functions.
"""
