"""Pixels in: slides opened, read and masked; knows nothing of networks and stores."""
