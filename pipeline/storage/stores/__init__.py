"""Object stores and everything else that fsspec reaches."""
