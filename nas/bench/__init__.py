"""Many models side by side on one target, in interleaved rounds, with tables, page and image.

It imports every package but ``pseudo_labels`` and ``cli``.
"""
