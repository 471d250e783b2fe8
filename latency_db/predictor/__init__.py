"""Latency of networks that nobody has measured, from a few that were: a roofline of their operations, corrected by a
Gaussian process. Imports no torch.

``features`` says what of a network decides its speed, ``prior`` is the physics, ``model`` the
:class:`~latency_db.predictor.model.Predictor`, ``database`` takes its rows from a
:class:`~latency_db.database.db.LatencyDB`. Nothing is imported here: scikit-learn takes a second to load.
"""
