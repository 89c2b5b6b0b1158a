"""Versions, in a module that imports nothing: they are written into every index and manifest."""

__version__ = "0.1.0"

#: Raised whenever a change makes older index files, plans or manifests unreadable; they are then made anew.
VERSION = 2

#: Raised whenever a change makes older index files alone unreadable, or reads a label file in another way.
INDEX_VERSION = 10
