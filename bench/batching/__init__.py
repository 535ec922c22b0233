"""Other engines' batching, live against simulated: see `__main__`."""
