"""What all tests share: hypothesis never judges by the wall clock, and prints what reproduces a failure."""

from hypothesis import HealthCheck, settings

settings.register_profile("forebay", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("forebay")
