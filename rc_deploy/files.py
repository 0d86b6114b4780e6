"""Reading and writing artefacts: outputs appear whole or not at all, inputs are checked before they are used."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import secrets
import shlex
import shutil
import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rc_deploy.errors import InputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

_WORDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO (named pipe)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# /dev/stdout and its like are links to these; behind them may be a plain file that a shell is writing to.
_STREAM = re.compile(r"/proc/\w+/fd/\d+")
# Temporary files are new, and anybody's as any new file: less the umask.
_CREATED, _MODE = os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666
_PIECE = 1 << 20  # bytes: small enough to stay in a processor's cache


def digest(data: bytes | memoryview) -> str:
    """Return the SHA-256 of bytes in hand as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_file(path: Path, kind: str) -> Path:
    """Return `path` if it is a readable plain file that is not empty.

    Args:
        path: the file.
        kind: what it should be, e.g. "checkpoint", for the message.

    Raises:
        InputError: missing, a folder, FIFO, socket or device, empty or unreadable.
    """
    try:
        status = path.stat()  # before it is opened: opening a FIFO would wait for a writer
        if words := _WORDS.get(stat.S_IFMT(status.st_mode)):
            raise InputError(f"{path} is {words}, where a {kind} belongs.", "Name a plain file.")
        with path.open("rb"):
            pass
    except FileNotFoundError:
        raise InputError(f"There is no {kind} at {path}.", "Check the path; nothing was read.") from None
    except OSError as error:
        raise InputError(f"The {kind} {path} cannot be read: {error.strerror}.", "Check its permissions.") from None
    if status.st_size == 0:
        raise InputError(
            f"The {kind} {path} is empty (0 bytes).",
            "An earlier run or copy was probably cut off: make or copy the file again.",
        )
    return path


def require_writable(path: Path) -> Path:
    """Return `path` if a plain file can be written there; called before long work, so that it is not lost.

    Raises:
        OutputError: the folder is missing or not writable, or `path` is something else than a plain file.
    """
    try:
        with tempfile.TemporaryFile(dir=_target(path).parent):
            pass
    except OSError as error:
        raise _output_error(path, error) from None
    return path


def _target(path: Path) -> Path:
    """Return the plain file that `path` names, links followed. Raises OutputError where it names anything else."""
    place = Path(os.path.realpath(path.parent), path.name)
    if _STREAM.match(str(place)) or (place.is_symlink() and _STREAM.match(str(place.readlink()))):
        raise OutputError(f"{path} is a stream, not a plain file.", "Name a plain file; for standard output, --json -")
    try:
        words = _WORDS.get(stat.S_IFMT(path.stat().st_mode))
    except FileNotFoundError:
        words = None
    except OSError as error:
        raise _output_error(path, error) from None
    if words == "a folder":
        raise OutputError(f"{path} is a folder.", "Name the file to write inside it.")
    if words:
        raise OutputError(
            f"{path} is {words}: only plain files are replaced.", "Name a plain file; for standard output, --json -"
        )
    return Path(os.path.realpath(path))


def _beside(target: Path) -> Path:
    """Return a name in the folder of `target` that nothing has."""
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")


@contextmanager
def _staged(path: Path) -> Iterator[tuple[Path, Path]]:
    """Yield a temporary file, which is gone afterwards, and the plain file beside it that it is to become."""
    target = _target(path)
    temporary = _beside(target)
    try:
        os.close(os.open(temporary, _CREATED, _MODE))
    except OSError as error:
        raise _output_error(path, error) from None
    try:
        yield temporary, target
    finally:
        temporary.unlink(missing_ok=True)


def _finish(temporary: Path) -> None:
    """Bring a written temporary file onto the disk."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path; rename it to `path` if the block succeeds, else delete it.

    A failed, full-disk or killed run therefore leaves an earlier `path` as it was. A link stays a link: what it
    leads to is replaced.

    Raises:
        OutputError: the file could not be written or renamed.
    """
    with _staged(path) as (temporary, target):
        try:
            yield temporary
            _finish(temporary)
            temporary.replace(target)
        except OSError as error:
            raise _output_error(path, error) from error


class Together:
    """Files that belong together: all are on the disk before the first replaces an earlier one. See `together`."""

    def __init__(self, stack: ExitStack, pool: ThreadPoolExecutor) -> None:
        self._stack, self._pool = stack, pool
        self._written: list[tuple[Path, _New, Future[None]]] = []

    def write(self, path: Path, data: bytes | memoryview) -> None:
        """Begin to write what `path` is to hold, beside whatever the caller does next. Raises OutputError."""
        file = self._stack.enter_context(_new(path))
        self._written.append((path, file, self._pool.submit(_fill, path, file, data)))

    def replace(self) -> None:
        """Wait for all, then put them in their places in the order given; last goes the file that vouches for others.

        Raises:
            OutputError: one of them could not be written. No earlier file was replaced, unless a rename failed.
        """
        for *_, filled in self._written:
            filled.result()
        for step in (_New.take_name, _New.replace):
            for path, file, _ in self._written:
                try:
                    step(file)
                except OSError as error:
                    raise _output_error(path, error) from error


@contextmanager
def together() -> Iterator[Together]:
    """Yield what writes files that belong together; what was not put in its place in the end is gone."""
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        yield Together(stack, pool)


@dataclass(frozen=True)
class _New:
    """An open file that is to become `target`, and the name beside it that it has until then, or takes on the way."""

    number: int
    temporary: Path
    target: Path

    def take_name(self) -> None:
        """Be under the name, if not yet so; where a file system gives a name to no such file, as a copy."""
        if self.temporary.exists():
            return
        unnamed = f"/proc/self/fd/{self.number}"
        try:
            # Only where a folder is named, though it is not looked at, does Python follow the link to the file.
            os.link(unnamed, self.temporary, src_dir_fd=self.number)
        except OSError:
            shutil.copyfile(unnamed, self.temporary)
            _finish(self.temporary)

    def replace(self) -> None:
        """Be where `target` was; has the name."""
        self.temporary.replace(self.target)


@contextmanager
def _new(path: Path) -> Iterator[_New]:
    """Yield a new file for what `path` is to hold, which is gone afterwards unless it was put in its place.

    It has no name where the system has such files: of a process that is killed nothing remains then. Raises
    OutputError.
    """
    target = _target(path)
    temporary = _beside(target)
    try:
        number = _without_name(target.parent)
        number = os.open(temporary, _CREATED, _MODE) if number is None else number
    except OSError as error:
        raise _output_error(path, error) from None
    try:
        yield _New(number, temporary, target)
    finally:
        os.close(number)
        temporary.unlink(missing_ok=True)


def _without_name(folder: Path) -> int | None:
    """Return the descriptor of a new file in a folder that has no name; None where such files are not to be had."""
    if not hasattr(os, "O_TMPFILE") or not Path("/proc/self/fd").is_dir():
        return None
    try:
        return os.open(folder, os.O_TMPFILE | os.O_WRONLY, _MODE)
    except OSError:  # the file system has none; or the folder is not writable, as who opens a file in it will hear
        return None


def _fill(path: Path, file: _New, data: bytes | memoryview) -> None:
    """Bring what `path` is to hold onto the disk. Raises OutputError."""
    try:
        with open(file.number, "wb", closefd=False) as stream:
            stream.write(data)
        os.fsync(file.number)
    except OSError as error:
        raise _output_error(path, error) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically. Raises OutputError."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def holds(path: Path, content: bytes) -> bool:
    """Whether a file's bytes are `content`; read in pieces, as it may be large."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size != len(content):
            return False
        starts = range(0, len(content), _PIECE)
        return all(file.read(_PIECE) == content[start : start + _PIECE] for start in starts)


def json_bytes(document: Any) -> bytes:
    """Return `document` as the bytes of a file of indented JSON."""
    return (json_text(document) + "\n").encode()


def write_json(path: Path, document: Any) -> None:
    """Write `document` to `path` atomically as indented JSON. Raises OutputError."""
    write_bytes(path, json_bytes(document))


def json_text(document: Any) -> str:
    """Return `document` as indented JSON; null stands for a number that is not finite, which JSON cannot write."""
    return json.dumps(_finite(document), indent=2, allow_nan=False)


def json_line(document: Any) -> str:
    """Return `document` as JSON on one line, for files that hold one document a line; otherwise as `json_text`."""
    return json.dumps(_finite(document), allow_nan=False)


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


def _output_error(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    hints = {
        errno.ENOSPC: "The disk is full: free some space and run the command again.",
        errno.EDQUOT: "Your disk quota is used up: free some space and run the command again.",
        errno.EFBIG: "A limit on file sizes was reached: see `ulimit -f`.",
        errno.ENOENT: f"Create the folder first: mkdir -p {shlex.quote(str(path.parent))}",
    }
    hint = hints.get(error.errno or 0, "Choose another place to write to.")
    return OutputError(f"{path} could not be written: {reason}. Any earlier file there is unchanged.", hint)
