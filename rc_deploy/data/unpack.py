"""Archives of data sets: only the files that a data set consists of come out, whole, and by name."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from rc_deploy.errors import InputError, reason

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST = 1 << 20  # bytes of a file whose size is not given: a list of names


def is_there(path: Path, size: int | None) -> bool:
    """Return whether a file of that size, or where none is given a file that is not empty, is there."""
    return path.is_file() and (path.stat().st_size == size if size is not None else path.stat().st_size > 0)


def unpack(archive: Path, sizes: Mapping[str, int | None], target: Path) -> list[Path]:
    """Write files of a .tar.gz, from its folder named as `target`, into `target`.

    A file of the right size that is there already stays as it is. The others are replaced once all of them are
    unpacked.

    Args:
        archive: what its hash vouched for.
        sizes: of each file in bytes; None where it may be any up to `LARGEST`.
        target: an existing folder.

    Returns:
        The files that were written.

    Raises:
        InputError: it is no such archive, lacks one of them, has one of another size, or has a member that is a link,
            a device or leads elsewhere.
        OSError: a file could not be written.
    """
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        try:
            found = _extract(archive, sizes, target.name, Path(temporary))
        except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise InputError(f"{archive} is not a .tar.gz: {reason(error)}.", "Download it again.") from None
        if missing := [name for name in sizes if name not in found]:
            raise InputError(f"{archive} lacks {target.name}/{missing[0]}.", "Download it again.")
        lacking = [name for name, size in sizes.items() if not is_there(target / name, size)]
        return [(Path(temporary) / name).replace(target / name) for name in lacking]


def _extract(archive: Path, sizes: Mapping[str, int | None], folder: str, target: Path) -> set[str]:
    found = set()
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if not (member.isreg() or member.isdir()) or path.is_absolute() or ".." in path.parts:
                raise InputError(
                    f"{archive} has {member.name!r}, which is a link, a device or leads elsewhere.",
                    "It is not the official archive: delete it.",
                )
            name = path.name
            if name not in sizes or path.parts != (folder, name) or not member.isreg():
                continue
            size = sizes[name]
            if member.size != size and (size is not None or not 0 < member.size <= LARGEST):
                raise InputError(f"{archive} has {member.name} of {member.size:,} bytes.", "Download it again.")
            source = tar.extractfile(member)
            assert source is not None  # noqa: S101 (it is a regular file)
            with source, (target / name).open("wb") as copy:
                shutil.copyfileobj(source, copy)
            found.add(name)
    return found
