"""The GPU timing protocol.

A measurement on a GPU takes these steps:

1. Under the lock of the device, a new process loads the model. A lasting process holds the reference model, which is
   timed before and after.
2. Warm-up lasts until the clock of the multiprocessors (SM clock, read through NVML) is constant.
3. Blocks of runs are queued without waiting for the host. CUDA events around each run give its device time.
4. Blocks end when the 95 % order-statistic interval of the median is narrow enough, or at the limits of
   :class:`~latency_db.gpu.protocol.GpuProtocol`.
5. A session during which the GPU was throttled is discarded and repeated after a pause.
6. A finalist repeats this for several builds of its engine; the build of the middle latency is reported.

Modules: :mod:`~latency_db.gpu.cuda` (memory, events, graphs), :mod:`~latency_db.gpu.providers` (the libraries behind
it), :mod:`~latency_db.gpu.nvml` (state of the GPU), :mod:`~latency_db.gpu.protocol`, :mod:`~latency_db.gpu.gpu_timer`.
Imports ``latency_db.core`` and ``latency_db.timing``.
"""
