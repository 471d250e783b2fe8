"""Latency on a target: targets, measurements, profilers of runtimes, the latency database, and prediction.

Imports ``search_spaces`` only. No module imports torch at its top, and this one imports nothing at all, because the
timing server (:mod:`latency_db.timing.timing_server`) is started through it and must start fast.
"""
