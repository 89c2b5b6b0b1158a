"""A config, resolved and checked: what a run works on."""
