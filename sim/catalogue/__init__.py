"""The catalogue of cloud machines: what they have and cost, each figure with its date, source and licence.

Read first: `prices.yaml` (the data; its head says how it was chosen and what is missing), then `offers` (what a program
gets), `price_file` (the format, for a price file of one's own too) and `load` (how the two are laid over each other).
"""
