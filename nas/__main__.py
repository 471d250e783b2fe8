"""``python -m nas``, and ``torchrun --nproc-per-node N -m nas``: the command ``nas``."""

from __future__ import annotations

from nas.cli import console

if __name__ == "__main__":
    console()
