"""Benchmarks that a script can read: `python -m bench.<name>` writes bench/results/<name>.json."""
