"""What every other folder builds on, and which knows none of them: errors, words and texts, the version."""
