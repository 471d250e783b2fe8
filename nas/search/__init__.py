"""The search: study, samplers, pruning, Pareto front, selection of S, M and L, and the files of a run.

It imports every package but ``bench``, ``pseudo_labels`` and ``cli``.
"""
