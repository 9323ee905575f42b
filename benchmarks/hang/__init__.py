"""Do a few slow queries stop the fast ones? The parts of `benchmarks/hang.py`."""
