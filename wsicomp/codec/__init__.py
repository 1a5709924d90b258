"""Latents to integers and back."""
