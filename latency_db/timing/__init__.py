"""The CPU timing protocol.

A measurement on the CPU takes these steps:

1. The timing client starts a process (the timing server) that imports the runtime. The ONNX file is written meanwhile.
2. The quietest CPUs of the process's allowance are chosen, and the server is pinned to them.
3. The server loads the model. A second server, which stays alive between measurements, holds the reference model.
4. Under a lock that all processes of the user share, both models warm up; then rounds follow. A round is one block of
   runs of each of the two, in random order. Rounds end when the 95 % interval of the median is narrow enough, or at
   the limits of :class:`latency_db.core.profiler.Protocol`.
5. A finalist repeats steps 1 to 4 in several processes, because the place of a process in memory changes its speed.
6. A run is clean if no other process interrupted it. If enough runs are clean and neither the hypervisor nor the other
   CPUs were busy, the latency is the median wall time of the clean runs, with the verdict ``clean``. Otherwise the
   verdict is ``contended``, and with one thread the latency is CPU time. Thermal throttling gives ``throttled``.

Imports ``latency_db.core`` only; the timing server imports the engine that it is given by name.
"""
