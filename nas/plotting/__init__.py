"""Interactive pages (plotly) and images (matplotlib) from one description of a chart, and text tables.

It imports ``core``.
"""
