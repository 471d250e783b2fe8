"""Comes before the tests' own imports: what :mod:`search_spaces` switches off must be off before a test imports
onnxruntime by itself."""

import search_spaces  # noqa: F401
