"""Prediction of the latency of unmeasured networks: a roofline of their operations, corrected by a Gaussian process.

``features`` describes a network, ``prior`` is the roofline, ``kernels`` and ``fit`` are the Gaussian process, ``model``
is the :class:`~latency_db.predictor.model.Predictor`, and ``database`` reads its rows from a
:class:`~latency_db.database.db.LatencyDB`; ``linear`` is Bayesian linear regression. The package imports
``latency_db.core``, ``latency_db.database`` and ``search_spaces``, no torch; this module imports nothing, because
scikit-learn takes a second to load.
"""
