"""The files that describe a front: ``front.json``, ``front.csv``, ``frontier.html``, ``frontier.png``.

It imports ``core``, ``plotting`` and the selection.
"""
