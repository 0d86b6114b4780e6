"""Bring the third-party headers that plugins/ is compiled with into build/third_party.

What an earlier run brought, or a folder given on the command line holds (an unpacked release of the vendor, say), is
taken as it is. Headers that the system has are found by CMake itself; they need no copy. The rest comes from Debian
and PyPI through their ordinary clients, which know this machine's mirrors and proxies and bring less, and where these
fail from the vendor's own release. All of it is pinned by SHA-256, and nothing of it is ever committed.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
import zipfile
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath

DESTINATION = Path(__file__).parents[1] / "build" / "third_party"
APT_SOURCES = Path("/etc/apt")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Plain HTTP is not among them: neither an address nor a redirection of another protocol is followed.
HANDLERS: tuple[type[urllib.request.BaseHandler], ...] = (
    urllib.request.ProxyHandler,
    urllib.request.HTTPSHandler,
    urllib.request.HTTPRedirectHandler,
    urllib.request.HTTPDefaultErrorHandler,
    urllib.request.HTTPErrorProcessor,
    urllib.request.UnknownHandler,
)
LONGEST, SILENCE = 300, 30  # seconds of a download, and without a word in it


class HeadersError(Exception):
    """A package could not be brought; says why and what to do."""


@dataclass(frozen=True)
class Release:
    """An archive of the vendor's own.

    Attributes:
        url: of a .tar.gz.
        sha256: of the archive.
        size: bytes that it may have at most.
        folder: inside the archive, that is copied.
    """

    url: str
    sha256: str
    size: int
    folder: str


@dataclass(frozen=True)
class Package:
    """Headers that come in a package of Debian's (a release's name is given) or PyPI's (none is), or from their vendor.

    Attributes:
        name: of the folder in build/third_party, and of the option that gives another.
        proof: a file that a folder with these headers has.
        found_by_system: where the system's own package has that file.
        package: name in the registry.
        version: there.
        sha256: of the package's file.
        folder: inside the package, that is copied.
        vendor: its own release.
        debian: name of Debian's release.
    """

    name: str
    proof: str
    found_by_system: str
    package: str
    version: str
    sha256: str
    folder: str
    vendor: Release
    debian: str = ""


# ONNX Runtime's API version 21: a library on it loads in 1.21 and every later release.
PACKAGES = (
    Package(
        name="onnxruntime",
        proof="include/onnxruntime_c_api.h",
        found_by_system="/usr/include/onnxruntime/onnxruntime_c_api.h",
        package="libonnxruntime-dev",
        version="1.21.0+dfsg-1",
        sha256="14f7d959d5deacbcf1504830d4189f91fc67382b399ed9ae9d3aa9c4050ced08",
        folder="usr/include/onnxruntime",
        # The hash is the one that onnxruntime-ruby 0.10.0 pins (Rakefile), as do a dozen other projects.
        vendor=Release(
            url="https://github.com/microsoft/onnxruntime/releases/download/v1.21.0/onnxruntime-linux-x64-1.21.0.tgz",
            sha256="7485c7e7aac6501b27e353dcbe068e45c61ab51fbaf598d13970dfae669d20bf",
            size=50_000_000,
            folder="onnxruntime-linux-x64-1.21.0/include",
        ),
        debian="trixie",
    ),
    Package(
        name="googletest",
        proof="CMakeLists.txt",
        found_by_system="",
        package="googletest",
        version="1.16.0-1",
        sha256="61fa1c7592dd93ec88ba0e574ef4ca5bc33c4908ad4545ef4b987ead120fc847",
        folder="usr/src/googletest",
        # The hash is the one that Apache Arrow (versions.txt) and Homebrew pin.
        vendor=Release(
            url="https://github.com/google/googletest/releases/download/v1.16.0/googletest-1.16.0.tar.gz",
            sha256="78c676fc63881529bf97bf9d45948d905a66833fbfa5318ea2cd7478cb98f399",
            size=5_000_000,
            folder="googletest-1.16.0",
        ),
        debian="trixie",
    ),
    # TensorRT's wheels have no headers; this wheel carries those of TensorRT 10.14.
    Package(
        name="tensorrt",
        proof="include/NvInferRuntime.h",
        found_by_system="/usr/include/x86_64-linux-gnu/NvInferRuntime.h",
        package="kernel-lens",
        version="2.0.1",
        sha256="07cc714e8b5e7f34b672f7c7fad93febe7c747be5837ba276b1527370134ffe0",
        folder="kernel_lens/include/tensorrt",
        # Nobody was found who pins this archive. Its hash was computed from the repository's commit 3b4ddc1d, tagged
        # v10.14, by `git archive --prefix=TensorRT-10.14/ v10.14 | gzip -cn`: the same gives the hashes that others pin
        # of GoogleTest 1.16.0 (above) and of this repository's 8.5.2 (72a297e3...).
        vendor=Release(
            url="https://github.com/NVIDIA/TensorRT/archive/refs/tags/v10.14.tar.gz",
            sha256="0e8961fd65d3de6ac7afe255bf5e6cb75d21883f3151da39e351a4ef581c9e40",
            size=60_000_000,
            folder="TensorRT-10.14/include",
        ),
    ),
)


def main() -> int:
    """Bring every package; say in a line each where it came from. Exit code 1 where one is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for package in PACKAGES:
        parser.add_argument(f"--{package.name}", type=Path, metavar="DIR", help=f"a folder with {package.proof}")
    given = parser.parse_args()
    failed = False
    for package in PACKAGES:
        try:
            print(f"{package.name}: {bring(package, getattr(given, package.name))}")
        except (HeadersError, OSError) as error:
            print(f"{package.name}: not found. {error}", file=sys.stderr)
            failed = True
    return int(failed)


def bring(package: Package, given: Path | None) -> str:
    """Put the package's headers into DESTINATION; return where they came from.

    Raises:
        HeadersError: they are to be had nowhere.
    """
    target = DESTINATION / package.name
    if given is not None:
        if not (given / package.proof).is_file():
            raise HeadersError(f"{given} has no {package.proof}.")
        _replace(given, target)
        return f"from {given}"
    if (target / package.proof).is_file():
        return "there already"
    if package.found_by_system and Path(package.found_by_system).is_file():
        return f"the system's, {package.found_by_system}"
    registry = "Debian" if package.debian else "PyPI"
    failed = ""
    for source, bring_from in ((registry, _from_registry), (f"the vendor, {package.vendor.url}", _from_vendor)):
        with tempfile.TemporaryDirectory() as temporary:
            try:
                found = bring_from(package, Path(temporary))
            except (HeadersError, OSError, HTTPException) as error:
                failed += f" ({source}: {error})"
                continue
            # A folder of headers goes to include/; sources with a build file of their own stay as they are.
            _replace(found, target / "include" if package.proof.startswith("include/") else target)
        return f"from {source}{failed}"
    raise HeadersError(f"It comes from nowhere:{failed}")


def _replace(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target)


def _from_registry(package: Package, folder: Path) -> Path:
    """Download and unpack Debian's or PyPI's package; return the folder that is wanted of it."""
    archive = _from_debian(package, folder) if package.debian else _from_pypi(package, folder)
    _require_hash(archive, package.sha256)
    unpacked = folder / "unpacked"
    if package.debian:
        _call(["dpkg-deb", "--extract", str(archive), str(unpacked)])
    else:
        zipfile.ZipFile(archive).extractall(unpacked)  # noqa: S202 (its hash is pinned)
    return unpacked / package.folder


def _from_vendor(package: Package, folder: Path) -> Path:
    """Download and unpack the vendor's release; return the folder that is wanted of it."""
    archive = folder / package.vendor.url.rpartition("/")[2]
    _download(package.vendor.url, package.vendor.size, archive)
    _require_hash(archive, package.vendor.sha256)
    _unpack(archive, package.vendor.folder, folder / "unpacked")
    return folder / "unpacked"


def _download(url: str, size: int, path: Path) -> None:
    """Save what lies at `url`, at most `size` bytes of it."""
    opener = urllib.request.OpenerDirector()
    for handler in HANDLERS:
        opener.add_handler(handler())
    end = time.monotonic() + LONGEST
    with opener.open(url, timeout=SILENCE) as answer, path.open("wb") as file:
        while block := answer.read(1 << 16):
            file.write(block)
            if file.tell() > size:
                raise HeadersError(f"it is larger than the {size} bytes that it should have at most")
            if time.monotonic() > end:
                raise HeadersError(f"it did not arrive within {LONGEST} s")


def _require_hash(archive: Path, sha256: str) -> None:
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != sha256:
        raise HeadersError(f"{archive.name} has SHA-256 {found}, not {sha256}: it is not the pinned one.")


def _unpack(archive: Path, folder: str, target: Path) -> None:
    """Write the files below `folder` of an archive into `target`; what else it holds, links among it, is left in it."""
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            name = PurePosixPath(member.name)
            if member.isdir() or not name.is_relative_to(folder):
                continue
            if not member.isreg() or ".." in name.parts:
                raise HeadersError(f"{archive.name} has {member.name!r}, which is a link or leads elsewhere.")
            file = target / name.relative_to(folder)
            file.parent.mkdir(parents=True, exist_ok=True)
            with tar.extractfile(member) as source, file.open("wb") as copy:
                shutil.copyfileobj(source, copy)


def _from_debian(package: Package, folder: Path) -> Path:
    """Download a package of a Debian release, which need not be this system's, with apt's lists kept in `folder`."""
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {_debian_mirror()} {package.debian} main\n", encoding="utf-8")
    (folder / "lists" / "partial").mkdir(parents=True)
    (folder / "cache" / "archives" / "partial").mkdir(parents=True)
    settings = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",  # the folder is this user's alone
        "Acquire::Retries": "2",
    }
    apt = ["apt-get", "-qq", *(f"--option={key}={value}" for key, value in settings.items())]
    _call([*apt, "update"], folder)
    _call([*apt, "download", f"{package.package}={package.version}"], folder)
    return next(folder.glob("*.deb"))


def _debian_mirror() -> str:
    """Return the mirror of Debian that this system's own apt uses."""
    lists = (*APT_SOURCES.glob("sources.list"), *sorted(APT_SOURCES.glob("sources.list.d/*")))
    text = "\n".join(path.read_text(encoding="utf-8") for path in lists)
    match = re.search(r"^(?:deb\s.*?|URIs:.*?)(https?://\S+/debian)/?(?:\s|$)", text, re.MULTILINE)
    if match is None or not KEYRING.is_file():
        raise HeadersError("This system's apt knows no mirror of Debian: give a folder (--help).")
    return match[1]


def _from_pypi(package: Package, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    _call([*command, f"{package.package}=={package.version}"])
    return next(folder.glob("*.whl"))


def _call(command: list[str], folder: Path | None = None) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder, timeout=300)  # noqa: S603
    except FileNotFoundError:
        raise HeadersError(f"There is no {command[0]} here: give a folder (--help).") from None
    except subprocess.CalledProcessError as error:
        reason = " ".join(str(error.stderr).split())[-300:]
        raise HeadersError(f"`{command[0]} ... {command[-1]}` failed: {reason}") from None
    except subprocess.TimeoutExpired:
        raise HeadersError(f"`{command[0]} ... {command[-1]}` did not end within 300 s.") from None


if __name__ == "__main__":
    sys.exit(main())
