"""A target against its manifest."""
