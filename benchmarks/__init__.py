"""Does the engine do what it says? Each module is a command (``python -m benchmarks.<name>``) that writes
``results/<name>.json``."""
