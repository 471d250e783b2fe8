"""Latency on a target, measured and kept: targets, measurements, profilers of runtimes, the database. Imports no torch.

Nothing is imported here, because the measuring process (:mod:`latency_db.timing.timing_server`) comes through this
file and has to start fast.
"""
