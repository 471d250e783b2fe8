"""Measurements kept by content in SQLite or PostgreSQL; tables read and written; remeasuring."""
