"""Workers elsewhere: the files that a run shares with them, what they check and do, and how a run believes them."""
