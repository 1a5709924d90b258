"""Rate and distortion of `wsic` beside its peers: one command, one run, the same tiles for every codec."""
