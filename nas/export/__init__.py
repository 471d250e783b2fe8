"""Trained detectors as ONNX files, checked against torch.

It imports ``core``.
"""
