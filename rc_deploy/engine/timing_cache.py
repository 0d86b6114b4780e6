"""Timing caches: what TensorRT measured in earlier builds, in a file that is right for one library, version and GPU.

The file is a line that says what it is, a line of JSON that says for what it is right and how its bytes hash, and the
library's own bytes. So a file that is damaged or another's never reaches the library, whose reader trusts it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import count
from typing import TYPE_CHECKING

from rc_deploy import gpu
from rc_deploy.artefacts import TIMING_CACHE_MAGIC
from rc_deploy.engine.library import version
from rc_deploy.errors import OutputError
from rc_deploy.files import digest, require_file, write_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from rc_deploy.engine.library import Library

_FIRST = TIMING_CACHE_MAGIC + b" 1\n"
# No timing cache is larger; a file that is, is none.
LARGEST = 2**30


@dataclass(frozen=True)
class Key:
    """What measurements are right for."""

    library: str
    version: str
    gpu: str

    @classmethod
    def here(cls, library: Library) -> Key:
        """Return the key of this machine."""
        gpus = gpu.driver().gpus
        name = f"{gpus[0].name}, compute capability {gpus[0].compute_capability}" if gpus else "no GPU"
        return cls(library.name, version(library), name)

    def __str__(self) -> str:
        return f"{self.library} {self.version} on {self.gpu}"


def read(path: Path, key: Key) -> tuple[bytes, str]:
    """Return the library's measurements in a file, and why there are none to use: empty where there are, or no file.

    Raises:
        InputError: what lies there cannot be read at all: a folder, a device, or without permission.
    """
    if not path.exists() or (path.is_file() and path.stat().st_size == 0):
        return b"", ""
    if require_file(path, "timing cache").stat().st_size > LARGEST:
        return b"", "is too large to be one"
    content = path.read_bytes()
    if not content.startswith(_FIRST):
        return b"", "is not one that rc-deploy wrote"
    line, _, measured = content[len(_FIRST) :].partition(b"\n")
    try:
        facts = json.loads(line)
        found, expected = Key(**facts["key"]), str(facts["sha256"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return b"", "is damaged"
    if digest(measured) != expected:
        return b"", "is damaged"
    return (measured, "") if found == key else (b"", f"is of {found}, not of {key}")


def write(path: Path, key: Key, measured: bytes) -> None:
    """Write the library's measurements, atomically. Raises OutputError."""
    facts = json.dumps({"key": asdict(key), "sha256": digest(measured)}, sort_keys=True)
    write_bytes(path, _FIRST + facts.encode() + b"\n" + measured)


def set_aside(path: Path) -> Path:
    """Rename a file to the first name that is free, FILE.old, FILE.old2 ..., and return it. Raises OutputError."""
    names = (path.with_name(f"{path.name}.old{number if number > 1 else ''}") for number in count(1))
    free = next(name for name in names if not name.exists() and not name.is_symlink())
    try:
        return path.rename(free)
    except OSError as error:
        raise OutputError(
            f"The timing cache {path} could not be set aside: {error.strerror}.", "Move it away, or name another."
        ) from None
