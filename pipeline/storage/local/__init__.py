"""Folders of this machine: batches of calls below an open directory."""
