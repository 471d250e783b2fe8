"""The shared weights of a search space, the files that keep them and those of single detectors, and BatchNorm recalibration.

It imports ``core``.
"""
