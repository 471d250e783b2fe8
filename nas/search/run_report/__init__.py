"""The report of a run: its facts as JSON, one offline HTML page, and the live view.

It imports ``core``, ``plotting``, ``profiling`` and all of ``nas.search``.
"""
