"""Which rows say the same: sets of words, vectors, keys that find candidates, and the rule that chooses survivors."""
