"""Shared weights of a search space, weights files of supernets and detectors, and BatchNorm recalibration.

It imports ``core``.
"""
