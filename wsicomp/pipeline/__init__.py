"""Source to store and store to pixels."""
