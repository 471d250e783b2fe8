"""Executors: where the tasks of candidates run.

===========  ==========================================================================================
``inline``   in the process of the search, one after the other (the default)
``local``    accuracies in spawned processes of this machine, latencies in a thread of the search
``ray``      accuracies on the nodes of a Ray cluster, latencies in a thread of the search
===========  ==========================================================================================

All have the interface of :class:`nas.search.executors.base.Executor`. The process of the search alone writes the
study; executors receive tasks and return estimates.
"""
