"""How fast the pipeline is, beside its own stages, beside merely reading the slide, and beside classical codecs."""
