"""ONNX files converted to fp16 and int8, with the quantization scheme that each runtime computes fast.

Imports ``latency_db.core``. Needs onnx and ONNX Runtime's quantizer, no torch.
"""
