"""Polygons and masks: pure functions on arrays."""
