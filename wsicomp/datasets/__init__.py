"""Labelled patches: tables of files, splits by group, crops for training, and the phantom."""
