"""Downloads of the data sets that may be passed on: from their official addresses, pinned by size and SHA-256.

What has arrived stays in FILE.part, so that a broken download goes on where it stopped. Nothing is unpacked, and no
file gets its name, before size and hash are right; files that are good already are left alone.
"""

from __future__ import annotations

import fcntl
import os
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from rc_deploy.data import cifar, svhn
from rc_deploy.data.pictures import IMAGENET, IMAGENET_PAGE
from rc_deploy.data.unpack import is_there, unpack
from rc_deploy.errors import InputError, OutputError, UnsupportedError, reason
from rc_deploy.files import sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# Plain HTTP is not among them: neither an address nor a redirection of another protocol is followed.
HANDLERS: tuple[type[urllib.request.BaseHandler], ...] = (
    urllib.request.ProxyHandler,
    urllib.request.HTTPSHandler,
    urllib.request.HTTPRedirectHandler,
    urllib.request.HTTPDefaultErrorHandler,
    urllib.request.HTTPErrorProcessor,
    urllib.request.UnknownHandler,
)
SILENCE = 30  # seconds without a word after which a download is broken
BLOCK = 1 << 18


@dataclass(frozen=True)
class Remote:
    """A file to download.

    Attributes:
        url: its official address.
        size: bytes.
        sha256: of its content.
        folder: inside the data folder, that it is for.
        sizes: files to unpack from it into that folder, and their sizes in bytes, None where it may be any; without
            these it is such a file itself.
    """

    url: str
    size: int
    sha256: str
    folder: str
    sizes: dict[str, int | None] | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]


def _cifar(name: str, url: str, size: int, sha256: str) -> Remote:
    layout = cifar.LAYOUTS[name]
    sizes = {**layout.sizes("train"), **layout.sizes("test"), layout.names: None}
    return Remote(url, size, sha256, layout.folder, sizes)


def _svhn(split: str, size: int, sha256: str) -> Remote:
    return Remote(f"https://ufldl.stanford.edu/housenumbers/{svhn.FILES[split]}", size, sha256, svhn.FOLDER)


# Sizes and hashes are those that TensorFlow Datasets, MLDatasets.jl and torchvision's prototypes pin as well.
REMOTES: dict[str, tuple[Remote, ...]] = {
    "cifar10": (
        _cifar(
            "cifar10",
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    ),
    "cifar100": (
        _cifar(
            "cifar100",
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            168_513_733,
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        ),
    ),
    "svhn": (
        _svhn("train", 182_040_794, "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),
        _svhn("test", 64_275_384, "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),
    ),
}


def remotes(name: str) -> tuple[Remote, ...]:
    """Return what a data set consists of. Raises InputError for one that cannot be downloaded."""
    if name == IMAGENET:
        raise InputError(
            "ImageNet may not be passed on.", f"Register at {IMAGENET_PAGE}, download it and unpack it there by hand."
        )
    if name not in REMOTES:
        raise InputError(f"There is no data set '{name}' to download.", f"Name one of {', '.join(REMOTES)}.")
    return REMOTES[name]


def targets(wanted: Sequence[Remote], root: Path) -> list[Path]:
    """Return the files that `download` writes, those it removes again among them."""
    files = [root / remote.folder / name for remote in wanted for name in remote.sizes or (remote.name,)]
    return [*files, *(_part(remote, root) for remote in wanted)]


def download(
    wanted: Sequence[Remote],
    root: Path,
    command: str,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Path]:
    """Bring a data set into a data folder, which is made where there is none.

    Args:
        wanted: see `remotes`.
        root: the data folder.
        command: that does this once more, for messages.
        on_progress: called with the bytes that are there and the bytes of all.

    Returns:
        The files that were written; none where all of them were there.

    Raises:
        InputError: what arrived, or was put there by hand, is not the official file.
        OutputError: the folder cannot be written to, or another download into it is under way.
        UnsupportedError: the address cannot be reached.
    """
    written: list[Path] = []
    total = sum(remote.size for remote in wanted)
    done = 0

    def on_size(size: int) -> None:
        on_progress(done + size, total)

    for remote in wanted:
        if not _complete(remote, root):
            written += _bring(remote, root, command, on_size)
        done += remote.size
    return written


def _complete(remote: Remote, root: Path) -> bool:
    """Return whether everything that `remote` is for is there already."""
    place = root / remote.folder
    if remote.sizes is None:
        path = place / remote.name
        return path.is_file() and path.stat().st_size == remote.size and sha256(path) == remote.sha256
    return all(is_there(place / name, size) for name, size in remote.sizes.items())


def _bring(remote: Remote, root: Path, command: str, on_size: Callable[[int], None]) -> list[Path]:
    with _writing(root):
        (root / remote.folder).mkdir(parents=True, exist_ok=True)
    by_hand = root / remote.name
    if remote.sizes is not None and by_hand.is_file():
        if (wrong := _what_is_wrong(remote, by_hand)) is not None:
            raise InputError(f"{by_hand} {wrong}.", f"Move it away, then: {command}")
        return unpack(by_hand, remote.sizes, root / remote.folder)
    part = _part(remote, root)
    with _writing(part), part.open("ab") as file:
        _lock(file, part)
        _fetch(remote, file, root, command, on_size)
        if (wrong := _what_is_wrong(remote, part)) is not None:
            part.unlink()
            raise InputError(f"What {remote.url} sent {wrong}. It was deleted.", f"Try again: {command}")
        if remote.sizes is not None:
            try:
                paths = unpack(part, remote.sizes, root / remote.folder)
            except InputError:
                part.unlink()
                raise
            part.unlink()
            return paths
        return [part.replace(root / remote.folder / remote.name)]


def _part(remote: Remote, root: Path) -> Path:
    return root / f"{remote.name}.part"


def _lock(file: BinaryIO, part: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(f"Another download is writing to {part}.", "Wait until it is done.") from None


def _fetch(remote: Remote, file: BinaryIO, root: Path, command: str, on_size: Callable[[int], None]) -> None:
    """Append to `file` what it lacks of the remote one; begin anew where the server cannot send a part."""
    have = file.tell()
    if have == remote.size:  # interrupted just before its hash was looked at
        return
    by_hand = root / (remote.name if remote.sizes is not None else f"{remote.folder}/{remote.name}")
    request = urllib.request.Request(remote.url)  # noqa: S310 (HANDLERS decide which protocols there are)
    if have:
        request.add_header("Range", f"bytes={have}-")
    opener = urllib.request.OpenerDirector()
    for handler in HANDLERS:
        opener.add_handler(handler())
    try:
        with opener.open(request, timeout=SILENCE) as answer:
            if answer.status != 206:
                file.truncate(have := 0)
            while have <= remote.size and (block := _read(answer)):
                file.write(block)
                have += len(block)
                on_size(min(have, remote.size))
    except _BrokenError as error:
        raise UnsupportedError(
            f"{remote.url} broke off after {have:,} of {remote.size:,} bytes: {error}.",
            f"What arrived is kept; go on with: {command}",
        ) from None
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the server's answer as well
        if not have:
            Path(file.name).unlink()
        cause = getattr(error, "reason", None)
        raise UnsupportedError(
            f"{remote.url} cannot be reached: {reason(cause if isinstance(cause, OSError) else error)}.",
            f"Download it on another machine, put it at {by_hand}, then: {command}",
        ) from None
    file.flush()
    os.fsync(file.fileno())
    if have < remote.size:
        raise UnsupportedError(
            f"{remote.url} ended after {have:,} of {remote.size:,} bytes.",
            f"What arrived is kept; go on with: {command}",
        )


class _BrokenError(Exception):
    """The connection broke in the middle of the file."""


def _read(answer: BinaryIO) -> bytes:
    try:
        return answer.read(BLOCK)
    except (OSError, HTTPException) as error:
        raise _BrokenError(reason(error)) from None


def _what_is_wrong(remote: Remote, path: Path) -> str | None:
    """Return in words why a file is not the official one; None where it is."""
    size = path.stat().st_size
    if size != remote.size:
        return f"has {size:,} bytes; the official {remote.name} has {remote.size:,}"
    found = sha256(path)
    return None if found == remote.sha256 else f"has SHA-256 {found}, not {remote.sha256} as the official {remote.name}"


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path} could not be written: {error.strerror or error}.", "Free some space, or choose another folder."
        ) from error
