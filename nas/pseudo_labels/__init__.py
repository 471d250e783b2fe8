"""Labels that a trained model gives to unlabelled images.

It imports ``data`` and ``inference``.
"""
