"""Latents to bytes and back: the quantiser, the entropy model, the entropy coder, and its Zarr codec."""
