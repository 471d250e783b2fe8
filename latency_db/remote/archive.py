"""The code that is sent to a board: ``search_spaces`` and ``latency_db`` as one zip file that Python imports from.

The file is named by its content and is the same for the same code, so that a board that has it needs nothing.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from functools import cache
from pathlib import Path

PACKAGES = ("search_spaces", "latency_db")
ROOT = Path(__file__).resolve().parents[2]
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)


@cache
def code_archive(root: Path = ROOT) -> tuple[str, bytes]:
    """Return the SHA-256 of the archive, and the archive; only Python files are in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in PACKAGES:
            for file in sorted((root / package).rglob("*.py")):
                entry = zipfile.ZipInfo(file.relative_to(root).as_posix(), _FIXED_TIME)
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, file.read_bytes())
    content = buffer.getvalue()
    return hashlib.sha256(content).hexdigest(), content
