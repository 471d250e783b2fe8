"""Import of published weights: a checkpoint is read without running its code, and its tensors are renamed.

The package imports ``core``, ``data`` and ``supernet``.
"""
