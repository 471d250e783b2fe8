"""Values that all packages use: target, device fingerprint, measurement, state of the machine, interface of a profiler.

Imports ``search_spaces`` only, and neither numpy nor a runtime.
"""
