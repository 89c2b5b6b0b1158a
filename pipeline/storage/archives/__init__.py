"""Zip archives as folders, read in place, and written."""
