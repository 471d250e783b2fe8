"""Values that every other part uses: target, device, measurement, CPU state, and the interface of a profiler."""
