"""L2: estimators, supernet, samplers, study, front, selection, data, training, export and the command line."""
