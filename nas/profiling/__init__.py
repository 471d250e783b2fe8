"""What is timed of a network, several files timed side by side in interleaved rounds, and onboarding of a new device.

It imports ``core`` and ``data``; measuring itself is ``latency_db``'s.
"""
