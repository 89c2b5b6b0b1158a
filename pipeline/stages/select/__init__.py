"""Which rows and images are wanted, with which class ids, in which split."""
