"""The planner: finds the Deployment to run, and holds its prediction against the live engine.

Read `search` first (what a plan is asked for and how it is found), then `space` (the choices), `ruling` (what is ruled
out unsimulated) and `race` (how candidates are compared); `verify` closes the loop.
"""
