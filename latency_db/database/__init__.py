"""The latency database in SQLite or PostgreSQL, tables that are written and read, and remeasuring.

Imports ``latency_db.core``.
"""
