"""From a plan to a subset that is done."""
