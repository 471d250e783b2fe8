"""Latency of a network's single operations, by the profile of each runtime, and the roofline of a machine.

It imports ``core``, ``conversion``, ``timing`` and ``runtimes``.
"""
