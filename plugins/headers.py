"""Bring the third-party headers that plugins/ is compiled with into build/third_party.

What an earlier run brought, or a folder given on the command line holds (an unpacked release of the vendor, say), is
taken as it is. Headers that the system has are found by CMake itself; they need no copy. The rest comes from Debian
and PyPI through their ordinary clients, pinned by version and SHA-256. Nothing of it is ever committed.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

DESTINATION = Path(__file__).parents[1] / "build" / "third_party"
APT_SOURCES = Path("/etc/apt")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class HeadersError(Exception):
    """A package could not be brought; says why and what to do."""


@dataclass(frozen=True)
class Package:
    """Headers that come in a package of Debian's (a release's name is given) or PyPI's (none is).

    Attributes:
        name: of the folder in build/third_party, and of the option that gives another.
        proof: a file that a folder with these headers has.
        found_by_system: where the system's own package has that file.
        package: name in the registry.
        version: there.
        sha256: of the package's file.
        folder: inside the package, that is copied.
        release: of Debian.
    """

    name: str
    proof: str
    found_by_system: str
    package: str
    version: str
    sha256: str
    folder: str
    release: str = ""


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
        release="trixie",
    ),
    Package(
        name="googletest",
        proof="CMakeLists.txt",
        found_by_system="",
        package="googletest",
        version="1.16.0-1",
        sha256="61fa1c7592dd93ec88ba0e574ef4ca5bc33c4908ad4545ef4b987ead120fc847",
        folder="usr/src/googletest",
        release="trixie",
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
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        archive = _from_debian(package, folder) if package.release else _from_pypi(package, folder)
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != package.sha256:
            raise HeadersError(f"{archive.name} has SHA-256 {found}, not {package.sha256}: it is not the pinned one.")
        unpacked = folder / "unpacked"
        if package.release:
            _call(["dpkg-deb", "--extract", str(archive), str(unpacked)])
        else:
            zipfile.ZipFile(archive).extractall(unpacked)  # its hash is pinned
        # A folder of headers goes to include/; sources with a build file of their own stay as they are.
        wanted = target / "include" if package.proof.startswith("include/") else target
        _replace(unpacked / package.folder, wanted)
    return f"{package.package} {package.version} from {'Debian' if package.release else 'PyPI'}"


def _replace(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target)


def _from_debian(package: Package, folder: Path) -> Path:
    """Download a package of a Debian release, which need not be this system's, with apt's lists kept in `folder`."""
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {_debian_mirror()} {package.release} main\n", encoding="utf-8")
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
