"""Targets in the hands of those who train on them: `make test-interop`."""
