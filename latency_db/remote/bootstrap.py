"""Scripts that a board runs before it has the code of this package: they need Python 3.6 and its standard library.

Both print one line of JSON and are given to ``python3 -c`` as text.
"""

from __future__ import annotations

FOLDER = ".cache/hw-nas-yolo"
"""Below the home folder of the board's user; holds code, models and the caches of runtimes."""

FACTS = """
import json, os, platform, shutil, sys
try:
    import numpy
    numpy = numpy.__version__
except Exception as error:
    numpy = ""
home = os.path.expanduser("~")
folder = os.path.join(home, sys.argv[1])
free = shutil.disk_usage(home).free
print(json.dumps({
    "python": platform.python_version(), "numpy": numpy, "machine": platform.machine(), "system": platform.platform(),
    "free_mib": free >> 20, "folder": folder, "executable": sys.executable,
}))
"""
"""Print what the board has: Python, numpy, free disk (MiB), folder."""

RECEIVE = """
import hashlib, json, os, sys
folder, name, size, digest, limit = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
folder = os.path.join(os.path.expanduser("~"), folder)
path = os.path.join(folder, name)
part = path + "." + str(os.getpid()) + ".part"
try:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    found, left = hashlib.sha256(), size
    with open(part, "wb") as file:
        while left:
            block = sys.stdin.buffer.read(min(left, 1 << 20))
            if not block:
                break
            found.update(block)
            file.write(block)
            left -= len(block)
        file.flush()
        os.fsync(file.fileno())
    if left or found.hexdigest() != digest:
        raise EOFError("%d of %d bytes arrived" % (size - left, size))
    os.replace(part, path)
    others = [os.path.join(os.path.dirname(path), n) for n in os.listdir(os.path.dirname(path))]
    others = sorted((os.stat(p).st_mtime, os.stat(p).st_size, p) for p in others if os.path.isfile(p) and p != path)
    total = size + sum(entry[1] for entry in others)
    for _, bytes_, other in others:
        if total > limit:
            os.remove(other)
            total -= bytes_
    answer = {"path": path}
except EOFError as error:
    answer = {"incomplete": str(error)}
except OSError as error:
    answer = {"error": error.strerror or str(error)}
if os.path.exists(part):
    os.remove(part)
print(json.dumps(answer))
"""
"""Store the standard input as a file below the folder, whole or not at all; remove the oldest files over a limit."""
