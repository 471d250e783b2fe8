"""The CPU timing protocol: a process that runs the model, warm-up, reference model, samples and their statistics."""
