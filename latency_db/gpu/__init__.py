"""Timing on a GPU: memory and events (:mod:`~latency_db.gpu.cuda`), its state (:mod:`~latency_db.gpu.nvml`), the
protocol, the bench around them."""
