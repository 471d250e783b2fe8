"""Architectures as values, search spaces, and the one definition of the detector network (L0: imports nothing else of this project)."""
