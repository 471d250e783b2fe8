"""TensorRT plans: compiling ONNX files, and a cache of compiled engines on disk.

Imports ``latency_db.core``, ``conversion``, ``gpu`` and ``timing``.
"""
