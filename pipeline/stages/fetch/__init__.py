"""Archives of a source: downloaded, checked, unpacked."""
