"""How much memory this process holds, as Linux counts it."""

from __future__ import annotations

import re
from pathlib import Path

_STATUS = Path("/proc/self/status")


def resident() -> int | None:
    """Return the bytes resident now; None where the system does not say."""
    return _status("VmRSS")


def peak() -> int | None:
    """Return the most bytes ever resident in this process, not those of whoever started it, as getrusage has them."""
    return _status("VmHWM")


def _status(key: str) -> int | None:
    try:
        found = re.search(rf"^{key}:\s+(\d+) kB$", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None
