"""A look at what a person has in hand: a config, a target, or any folder of a dataset; see `view.open_view`."""
