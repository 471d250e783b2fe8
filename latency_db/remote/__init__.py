"""Measure on a board over the system's OpenSSH client.

The client sends ``search_spaces`` and ``latency_db`` as one archive and each model once, by content; a process on the
board (:mod:`latency_db.remote.board_server`) opens profilers there and returns measurements with the board's
fingerprint. The board needs Python 3.10, numpy and the runtime; nothing is installed on it. Imports
``latency_db.core``, ``latency_db.conversion`` and ``latency_db.runtimes``. ``docs/boards.md`` is the guide for users.
"""
