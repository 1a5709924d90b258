"""Tiny stores of every released format, which every later release must read, and the scripts that make them."""
