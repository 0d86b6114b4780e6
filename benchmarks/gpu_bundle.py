"""Bring along what a machine with a GPU and no network lacks: `make gpu-bundle` here, `make gpu-unpack` there.

`pack` downloads wheels and puts them, the headers of build/third_party and data sets into build/gpu-bundle, in pieces
of at most 60 MiB, with a manifest (MANIFEST.json, README.md) of what each is for. `unpack` puts the pieces that are
there together again, checks their SHA-256 and installs the packages into a folder of their own, where gpu_check.py
finds them and nothing else does. Both may be run again at any time: what is there and right is kept. The groups stand
in bundle_groups.py.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bundle_groups import BUNDLE, GROUPS, PYTHON, SITE, Group  # noqa: E402
from bundle_manifest import (  # noqa: E402
    SCHEMA,
    SCHEMA_VERSION,
    BundleError,
    Manifest,
    Packed,
    listed,
    read_manifest,
    right,
    write_manifest,
)
from bundle_pieces import LARGEST, cut, join  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DOWNLOADS = ROOT / "build" / "gpu-bundle-downloads"
THIRD_PARTY = ROOT / "build" / "third_party"
HEADERS = ("googletest", "onnxruntime", "tensorrt")
DATA_SETS = ("cifar-10-batches-bin", "cifar-100-binary")
CONSTRAINTS = ROOT / "constraints.txt"
GLIBC = range(17, 40)  # of the wheels that are taken: pip takes only those that are named


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack or unpack; 0 where everything that was asked for is there."""
    options = _options(arguments)
    try:
        return pack(options) if options.work == "pack" else unpack(options)
    except BundleError as error:
        print(f"gpu_bundle.py: {error}", file=sys.stderr)
        return 1


def pack(options: argparse.Namespace) -> int:
    """Make the bundle, or bring it up to date; 1 where a group could not be had.

    Raises:
        BundleError: `--with` or `--only` names no group.
    """
    BUNDLE.mkdir(parents=True, exist_ok=True)
    try:
        earlier = read_manifest(BUNDLE)
    except BundleError:
        print(f"The manifest in {BUNDLE} cannot be read: everything is made anew.", file=sys.stderr)
        earlier = None
    target = _target(options.python, options.machine)
    kept = {group.name: group for group in earlier.groups} if earlier and earlier.target == target else {}
    failed = 0
    for group in _chosen(options):
        try:
            files = _content(group, options)
            kept[group.name] = _packed(group, files, kept.get(group.name))
        except (BundleError, OSError) as error:
            print(f"{group.name}: left out. {error}", file=sys.stderr)
            failed = 1
            continue
        manifest = Manifest(SCHEMA, SCHEMA_VERSION, target, tuple(kept.values()))
        write_manifest(BUNDLE, manifest)
        (BUNDLE / "README.md").write_text(readme(manifest), encoding="utf-8")
        pieces = kept[group.name].pieces
        print(f"{group.name}: {len(pieces)} pieces, {sum(piece.size for piece in pieces) / 2**20:.1f} MiB", flush=True)
    return failed


def unpack(options: argparse.Namespace) -> int:
    """Put together what is there, install its packages; 1 where a group is not whole.

    Raises:
        BundleError: there is no manifest, or none that can be read.
    """
    manifest = read_manifest(BUNDLE)
    if manifest is None:
        raise BundleError(f"there is no manifest in {BUNDLE}: bring it, with the pieces of `make gpu-bundle`.")
    folders = {"wheels": BUNDLE / "wheels", "third_party": THIRD_PARTY, "data": BUNDLE / "data"}
    failed = 0
    for group in manifest.groups:
        try:
            if group.content not in folders:
                raise BundleError(
                    f"{group.name} belongs in {group.content!r}, which is not known: make the bundle anew."
                )
            join(group, BUNDLE, folders[group.content])
            said = _installed(group, folders[group.content], options.site, manifest.target)
        except (BundleError, OSError) as error:
            print(f"{group.name}: {error}", file=sys.stderr)
            failed = 1
            continue
        print(f"{group.name}: {len(group.files)} files in place{said}", flush=True)
    return failed


def readme(manifest: Manifest) -> str:
    """Return the manifest in words."""
    lines = [
        "# What a machine with a GPU is brought",
        "",
        f"For {manifest.target}. `make gpu-unpack` there, with as many",
    ]
    lines += ["of the pieces as there are, puts it in place; MANIFEST.json has every file and SHA-256.", ""]
    lines += ["| piece | bytes | SHA-256 | what it is for | wanted by |", "|---|---|---|---|---|"]
    for group in manifest.groups:
        wanted = ", ".join(group.wanted_by) or "nothing yet"
        for piece in group.pieces:
            lines.append(f"| {piece.name} | {piece.size} | {piece.sha256[:16]} | {group.purpose} | {wanted} |")
    for group in manifest.groups:
        names = ", ".join(file.name for file in group.files[:40]) + (" ..." if len(group.files) > 40 else "")
        lines += ["", f"**{group.name}**, {len(group.files)} files: {names}"]
    return "\n".join([*lines, ""])


def _chosen(options: argparse.Namespace) -> list[Group]:
    names = {group.name for group in GROUPS}
    for name in (*options.also, *options.only):
        if name not in names:
            raise BundleError(f"there is no group {name!r}: they are {', '.join(sorted(names))}.")
    chosen = [group for group in GROUPS if group.name in options.only or not options.only]
    return [
        group
        for group in chosen
        if (not group.asked_for or group.name in (*options.also, *options.only))
        and (group.name != "data" or options.data)
    ]


def _content(group: Group, options: argparse.Namespace) -> dict[str, Path]:
    """Return a group's files, by their names in its archive."""
    if group.content == "third_party":
        return _below(THIRD_PARTY, HEADERS, "run `python plugins/headers.py`")
    if group.content == "data":
        return _below(options.data, DATA_SETS, "`rc-deploy download cifar10 --data-dir DIR` brings one")
    return downloaded(group, options.python, options.machine)


def _below(root: Path, folders: Sequence[str], brought_by: str) -> dict[str, Path]:
    """Return the files of those of the folders that are there."""
    files = [path for folder in folders for path in (root / folder).rglob("*") if path.is_file()]
    if not files:
        raise BundleError(f"{root} has none of {', '.join(folders)}: {brought_by}.")
    return {path.relative_to(root).as_posix(): path for path in files}


def downloaded(group: Group, python: str, machine: str) -> dict[str, Path]:
    """Download a group's packages, unless they are there, and return their files.

    Raises:
        BundleError: pip cannot have one of them.
    """
    folder = DOWNLOADS / group.name
    folder.mkdir(parents=True, exist_ok=True)
    platforms = [f"--platform=manylinux_2_{number}_{machine}" for number in GLIBC]
    platforms.append(f"--platform=manylinux2014_{machine}")
    target = ["--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *platforms]
    said = _pip("download", *target, f"--constraint={CONSTRAINTS}", f"--dest={folder}", *group.packages)
    if group.sources:
        said += _pip("download", "--no-binary=:all:", "--no-build-isolation", f"--dest={folder}", *group.sources)
    # What an earlier call left there in another version stays behind.
    names = re.findall(r"^\s*(?:Saved|File was already downloaded) (.+?)\s*$", said, re.MULTILINE)
    return {Path(name).name: folder / Path(name).name for name in names}


def _pip(work: str, *words: str, site: Path | None = None) -> str:
    """Run pip without needs of needs, which the groups name; return what it prints. It may import from `site`."""
    command = [sys.executable, "-m", "pip", work, "--no-deps", "--disable-pip-version-check", *words]
    path = f"{os.environ['PATH']}{os.pathsep}/usr/local/cuda/bin"  # where the toolkit lies when it is not in PATH
    environment = os.environ | ({"PYTHONPATH": str(site), "PATH": path} if site else {})
    found = subprocess.run(command, capture_output=True, text=True, env=environment)
    if found.returncode != 0:
        raise BundleError(f"`pip {work}` failed: ... {' '.join(found.stderr.split())[-300:]}")
    return found.stdout


def _packed(group: Group, files: Mapping[str, Path], earlier: Packed | None) -> Packed:
    """Return the group with its pieces, which are written unless they are there."""
    entries = tuple(listed(path, name) for name, path in sorted(files.items()))
    there = earlier and earlier.files == entries and all(right(BUNDLE / piece.name, piece) for piece in earlier.pieces)
    pieces = earlier.pieces if there and earlier else cut(files, group.name, BUNDLE, LARGEST)
    described = (group.name, group.purpose, group.wanted_by, group.content, group.packages, group.sources)
    return Packed(*described, entries, pieces)


def _installed(group: Packed, folder: Path, site: Path, target: str) -> str:
    """Install a group's packages into `site`, but for those that this Python has; return what was done in words."""
    there = [name for name in (*group.packages, *group.sources) if _is_installed(name, site)]
    missing = [name for name in (*group.packages, *group.sources) if name not in there]
    if missing and target != _this_python():
        raise BundleError(f"its packages are for {target}, this is {_this_python()}: `make gpu-bundle` takes FOR=X.Y.")
    offline = ("--no-index", f"--find-links={folder}", "--no-build-isolation", "--upgrade", f"--target={site}")
    # What has to be compiled wants the others.
    for names in (group.packages, group.sources):
        if wanted := [name for name in names if name in missing]:
            _pip("install", *offline, *wanted, site=site)
    words = {"there already": there, "installed": missing}
    return "".join(f"; {what}: {', '.join(names)}" for what, names in words.items() if names)


def _is_installed(name: str, site: Path) -> bool:
    return any(metadata.distributions(name=name, path=[str(site), *sys.path]))


def _this_python() -> str:
    return _target(PYTHON, platform.machine())


def _target(python: str, machine: str) -> str:
    """Return what wheels are for, as the manifest says it."""
    return f"Python {python}, {machine}"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    works = parser.add_subparsers(dest="work", required=True)
    packing = works.add_parser("pack", help="make the bundle")
    packing.add_argument("--python", default=PYTHON, metavar="X.Y", help="of the machine with the GPU (%(default)s)")
    packing.add_argument("--machine", default=platform.machine(), help="its processor (%(default)s)")
    packing.add_argument(
        "--with", dest="also", nargs="*", default=[], metavar="GROUP", help="that is brought when asked"
    )
    packing.add_argument(
        "--only", nargs="*", default=[], metavar="GROUP", help="these groups; the others stay as they are"
    )
    packing.add_argument("--data", type=Path, help="folder of the data sets to bring along")
    unpacking = works.add_parser("unpack", help="put it in place")
    unpacking.add_argument("--site", type=Path, default=SITE, help="folder of the packages (%(default)s)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
