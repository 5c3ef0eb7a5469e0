"""Injected faults, by injectors that share no code with the tests' servers: `make test-faults`, docs/reliability.md.

The exchange and the phone here are written for this alone, so that a mistake of the other servers cannot hide one of
the product's. `run.py` runs every kind with fixed seeds and writes down what was measured.
"""
