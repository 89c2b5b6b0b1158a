"""Tables: their schemas, and Arrow, Parquet and frames."""
