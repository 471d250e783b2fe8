"""TensorRT plans: building them, and a cache of those that were built."""
