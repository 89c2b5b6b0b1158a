"""What a config, a target or any folder of a dataset has: statistics, samples, pages; see `view.open_view`."""
