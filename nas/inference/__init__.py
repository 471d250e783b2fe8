"""A trained detector on images: loading, pre-processing, suppression, COCO metrics, drawing, videos.

It imports ``core``, ``data`` and ``supernet``.
"""
