"""What a bundle says of itself: every group of files, what it is for, and the SHA-256 of each file and piece.

A manifest comes from elsewhere with the pieces: its names are held to lead nowhere but into the bundle's folders.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from rc_deploy.decode import FormError, decode, parse
from rc_deploy.files import sha256, write_json

SCHEMA, SCHEMA_VERSION = "rc-deploy/gpu-bundle", 1
MANIFEST = "MANIFEST.json"


class BundleError(Exception):
    """A bundle cannot be made or unpacked; says what of it and what to do."""


@dataclass(frozen=True)
class Listed:
    """A file or a piece: its name (a file's is a path with slashes), bytes and SHA-256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Packed:
    """A group as the manifest has it.

    Attributes:
        name: of its pieces.
        purpose: what it is for.
        wanted_by: parts of `make gpu-check`, or other commands.
        content: the folder that its files belong in.
        packages: among its files, for pip.
        sources: those that pip compiles, when the packages are in place.
        files: of the archive.
        pieces: that the archive was cut into.
    """

    name: str
    purpose: str
    wanted_by: tuple[str, ...]
    content: str
    packages: tuple[str, ...]
    sources: tuple[str, ...]
    files: tuple[Listed, ...]
    pieces: tuple[Listed, ...]

    def __post_init__(self) -> None:
        for piece in self.pieces:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", piece.name):
                raise ValueError(f"{piece.name!r} is no name of a piece")
        for file in self.files:
            path = PurePosixPath(file.name)
            if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in file.name:
                raise ValueError(f"{file.name!r} leads out of the folder")


@dataclass(frozen=True)
class Manifest:
    """Everything in a bundle."""

    schema: str
    schema_version: int
    target: str
    groups: tuple[Packed, ...]

    def __post_init__(self) -> None:
        if (self.schema, self.schema_version) != (SCHEMA, SCHEMA_VERSION):
            raise ValueError(f"it is {self.schema} {self.schema_version}, not {SCHEMA} {SCHEMA_VERSION}")


def read_manifest(folder: Path) -> Manifest | None:
    """Return a bundle's manifest; None where there is none.

    Raises:
        BundleError: it is no manifest of ours, or names something outside the bundle.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        return decode(Manifest, parse(path.read_text(encoding="utf-8")))
    except (FormError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is no manifest ({error}): bring it again, or make the bundle anew.") from None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a bundle's manifest."""
    write_json(folder / MANIFEST, asdict(manifest))


def listed(path: Path, name: str) -> Listed:
    """Return a file's entry under that name."""
    return Listed(name, path.stat().st_size, sha256(path))


def right(path: Path, entry: Listed) -> bool:
    """Whether the file at `path` is the one that was listed."""
    return path.is_file() and path.stat().st_size == entry.size and sha256(path) == entry.sha256
