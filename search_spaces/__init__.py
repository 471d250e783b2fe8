"""Architectures as values, search spaces, and the one definition of the detector network (L0: imports nothing else of
this project)."""

import os

# ONNX Runtime, from 1.32 on, tells its maker of every process and session unless this is set before it is loaded.
# Every module of this project that loads it has come through here. Who wants it to sets 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("ORT_TELEMETRY_DISABLED", "1")  # as it was called at first
