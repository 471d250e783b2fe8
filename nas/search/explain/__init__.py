"""Why a run chose its networks, as typed values: counterfactuals, importance of choices, waterfalls, history, trust.

It imports ``core``, ``profiling``, the samplers' surrogates and the values of ``nas.search``.
"""
