"""Reading and writing artefacts: outputs appear whole or not at all, inputs are checked before they are used."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rc_deploy.errors import InputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_file(path: Path, kind: str) -> Path:
    """Return `path` if it is a readable file that is not empty.

    Args:
        path: the file.
        kind: what it should be, e.g. "checkpoint", for the message.

    Raises:
        InputError: missing, a folder, empty or unreadable.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a {kind} file.", "Name the file inside it.")
    try:
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except FileNotFoundError:
        raise InputError(f"There is no {kind} at {path}.", "Check the path; nothing was read.") from None
    except OSError as error:
        raise InputError(f"The {kind} {path} cannot be read: {error.strerror}.", "Check its permissions.") from None
    if size == 0:
        raise InputError(
            f"The {kind} {path} is empty (0 bytes).",
            "An earlier run or copy was probably cut off: make or copy the file again.",
        )
    return path


def require_writable(path: Path) -> Path:
    """Return `path` if a file can be created beside it; called before long work, so that it is not lost.

    Raises:
        OutputError: the folder is missing or not writable, or `path` is a folder.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder.", "Name the file to write inside it.")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _output_error(path, error) from None
    return path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place if the block succeeds, else delete it.

    A failed, full-disk or killed run therefore leaves an earlier `path` as it was.

    Raises:
        OutputError: the file could not be written or renamed.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        raise _output_error(path, error) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise _output_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically. Raises OutputError."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, document: Any) -> None:
    """Write `document` to `path` atomically as indented JSON. Raises OutputError."""
    write_bytes(path, (json_text(document) + "\n").encode())


def json_text(document: Any) -> str:
    """Return `document` as indented JSON; null stands for a number that is not finite, which JSON cannot write."""
    return json.dumps(_finite(document), indent=2, allow_nan=False)


def read_json(path: Path, kind: str) -> dict[str, Any]:
    """Read a JSON object from `path`. Raises InputError where it is missing or is not one."""
    require_file(path, kind)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"The {kind} {path} is not valid JSON: {error}.", "Make the file again.") from None
    if not isinstance(document, dict):
        raise InputError(f"The {kind} {path} does not hold a JSON object.", "Make the file again.")
    return document


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _umask() -> int:
    """Return the process's umask; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _output_error(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    hints = {
        errno.ENOSPC: "The disk is full: free some space and run the command again.",
        errno.EDQUOT: "Your disk quota is used up: free some space and run the command again.",
        errno.EFBIG: "A limit on file sizes was reached: see `ulimit -f`.",
        errno.ENOENT: f"Create the folder first: mkdir -p {path.parent}",
    }
    hint = hints.get(error.errno or 0, "Choose another place to write to.")
    return OutputError(f"{path} could not be written: {reason}. Any earlier file there is unchanged.", hint)
