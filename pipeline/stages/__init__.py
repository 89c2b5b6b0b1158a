"""The stages, in the order of the flow: fetch, index, select, plan, apply; and verify."""
