"""Losses, loops and checkpoints: one file per recipe."""
