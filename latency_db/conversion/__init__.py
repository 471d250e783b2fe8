"""ONNX files converted to lower precisions, in the form that each runtime computes fast."""
