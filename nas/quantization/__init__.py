"""Quantization of trained detectors to int8: calibrated, selective or fine-tuned; linted and evaluated in the serving
runtime."""
