"""Workloads of networks, interleaved rounds, and onboarding of a device.

It imports ``core`` and ``data``; measuring itself is ``latency_db``'s.
"""
