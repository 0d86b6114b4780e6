"""A group of files as one tar archive in pieces of limited size, and back again.

Unpacking trusts neither pieces nor manifest: it writes nothing that the manifest does not list, outside the folder it
was given, or with another content. Files that are already there and right are kept.
"""

from __future__ import annotations

import io
import shutil
import tarfile
from typing import TYPE_CHECKING

from bundle_manifest import BundleError, Listed, Packed, listed, right

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import IO

    from _typeshed import ReadableBuffer, WriteableBuffer

LARGEST = 60 << 20  # bytes of a piece
BLOCK = 1 << 20


def cut(files: Mapping[str, Path], name: str, folder: Path, largest: int = LARGEST) -> tuple[Listed, ...]:
    """Write an archive of `files`, by their names in it, as pieces of at most `largest` bytes; the same for the same.

    Args:
        files: in any order.
        name: of the pieces, before their numbers.
        folder: that they are written to, over earlier ones.
        largest: bytes of a piece.
    """
    with (
        _Cutter(folder, name, largest) as pieces,
        tarfile.open(fileobj=pieces, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for inside, path in sorted(files.items()):
            member = tarfile.TarInfo(inside)
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                tar.addfile(member, file)
    for stale in folder.glob(f"{name}.tar.*"):
        if stale not in pieces.written:
            stale.unlink()
    return tuple(listed(path, path.name) for path in pieces.written)


class _Cutter(io.RawIOBase):
    """A file to write to that goes on in the next piece where one is full."""

    def __init__(self, folder: Path, name: str, largest: int) -> None:
        self.written: list[Path] = []
        self._folder, self._name, self._largest = folder, name, largest
        self._file: IO[bytes] = io.BytesIO()
        self._left = 0

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of it."""
        rest = memoryview(data)
        count = len(rest)
        while rest:
            if not self._left:
                self._next()
            self._file.write(rest[: self._left])
            done = min(self._left, len(rest))
            rest, self._left = rest[done:], self._left - done
        return count

    def close(self) -> None:
        """End the last piece."""
        self._file.close()
        super().close()

    def _next(self) -> None:
        self._file.close()
        path = self._folder / f"{self._name}.tar.{len(self.written):02}"
        self.written.append(path)
        self._file, self._left = path.open("wb"), self._largest


def join(group: Packed, folder: Path, target: Path) -> None:
    """Put a group's files into `target`, from the pieces in `folder`, unless they are there.

    Raises:
        BundleError: a piece is missing or damaged, or the archive has something that the manifest does not list.
    """
    if all(right(target / file.name, file) for file in group.files):
        return
    _require_pieces(group, folder)
    wanted = {file.name: file for file in group.files}
    joined = io.BufferedReader(_Joined([folder / piece.name for piece in group.pieces]))
    try:
        with joined, tarfile.open(fileobj=joined, mode="r|") as tar:
            for member in tar:
                source = tar.extractfile(member) if member.isreg() else None
                if source is None or member.name not in wanted:
                    raise BundleError(f"{group.name}.tar has {member.name!r}, which the manifest does not list.")
                _place(source, wanted.pop(member.name), group.name, target)
    except tarfile.TarError as error:
        raise BundleError(f"{group.name}.tar cannot be read ({error}): make the bundle anew.") from None
    if wanted:
        raise BundleError(f"{group.name}.tar has no {', '.join(sorted(wanted)[:3])}: make the bundle anew.")


def _require_pieces(group: Packed, folder: Path) -> None:
    missing = [piece.name for piece in group.pieces if not (folder / piece.name).is_file()]
    if missing:
        raise BundleError(f"{group.name}: {', '.join(missing)} of {len(group.pieces)} pieces not there: bring them.")
    for piece in group.pieces:
        if not right(folder / piece.name, piece):
            raise BundleError(f"{group.name}: {piece.name} is damaged, its SHA-256 is another: bring it again.")


def _place(source: IO[bytes], entry: Listed, group: str, target: Path) -> None:
    """Write one file under its name once its content is known to be right."""
    path = target / entry.name
    if not path.parent.resolve().is_relative_to(target.resolve()):
        raise BundleError(f"{group}: {entry.name} lies behind a link that leads out of {target}: remove the link.")
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        shutil.copyfileobj(source, file, BLOCK)
    if not right(new, entry):
        new.unlink()
        raise BundleError(f"{group}: {entry.name} is not what the manifest lists: make the bundle anew.")
    new.replace(path)


class _Joined(io.RawIOBase):
    """Pieces as one file to read."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._blocks = self._read(paths)
        self._rest = b""

    def readable(self) -> bool:
        """Return that it is."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill as much of the buffer as is at hand."""
        view = memoryview(buffer)
        if not self._rest:
            self._rest = next(self._blocks, b"")
        part, self._rest = self._rest[: len(view)], self._rest[len(view) :]
        view[: len(part)] = part
        return len(part)

    @staticmethod
    def _read(paths: Sequence[Path]) -> Iterator[bytes]:
        for path in paths:
            with path.open("rb") as file:
                while block := file.read(BLOCK):
                    yield block
