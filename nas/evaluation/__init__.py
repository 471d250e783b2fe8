"""Accuracy of trained detectors with bootstrap intervals, error analysis and reports.

It imports ``inference`` and what is below it, and ``plotting``.
"""
