"""Published weights as weights files of this program: checkpoints read without running their code, tensors renamed.

It imports ``core``, ``data`` and ``supernet``.
"""
