"""From a selection to one row a file: write, copy, keep or delete."""
