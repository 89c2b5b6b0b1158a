"""The version, in a module that imports nothing: it is written into every manifest."""

__version__ = "0.1.0"
