"""Values and helpers that every other package uses: estimates, architecture files, budgets, units, files, reporters.

It imports no other package of ``nas``.
"""
