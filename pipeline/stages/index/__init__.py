"""From label files to Parquet, one file a bucket."""
