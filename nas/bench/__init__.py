"""Benches: many models on one target, timed in interleaved rounds, with table, page and image.

It imports every package but ``pseudo_labels`` and ``cli``.
"""
