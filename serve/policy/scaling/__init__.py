"""Autoscaler policies: how many replicas are wanted, from what an autoscaler of that kind would know at a tick.

Read `decision` first, then the shortest policy, `scheduled`. Each file restates one project's autoscaler with its own
arithmetic and constants: settings, the sample of a tick, and a class that holds what the autoscaler remembers. Time is
the sample's; a policy has no clock and no chance, so that logged samples give the logged decisions again.
"""
