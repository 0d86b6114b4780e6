"""`make gpu-bundle` and `make gpu-unpack`: pieces, damage, hostile manifests; pip installs from a folder, offline."""

from __future__ import annotations

import io
import json
import os
import random
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

import gpu_bundle
import gpu_check
from bundle_groups import GROUPS, Group, bringing
from bundle_manifest import BundleError, Listed, Packed, listed, read_manifest
from bundle_pieces import LARGEST, cut, join

SMALL = 64 << 10
MINE = Group("mine", "a package to try", ("kernels",), ("rc-small",))
HEADERS = Group("headers", "headers", ("build",), content="third_party")


def wheel(folder: Path) -> Path:
    """A package that is larger than a piece."""
    path = folder / "rc_small-1.0-py3-none-any.whl"
    information = "rc_small-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rc_small.py", f"TEXT = {random.Random(0).randbytes(3 * SMALL).hex()!r}\n")  # noqa: S311
        archive.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\nName: rc-small\nVersion: 1.0\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")
    return path


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of a bundle's own, with a header, a data set and a package; pip has no index."""
    wheels = tmp_path / "wheels"
    for folder in (wheels, tmp_path / "third_party" / "onnxruntime", tmp_path / "cifar" / "cifar-10-batches-bin"):
        folder.mkdir(parents=True)
    wheel(wheels)
    (tmp_path / "third_party" / "onnxruntime" / "api.h").write_text("int api();\n")
    (tmp_path / "cifar" / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(b"1" * 10)
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(gpu_bundle, "BUNDLE", tmp_path / "bundle")
    monkeypatch.setattr(gpu_bundle, "DOWNLOADS", tmp_path / "downloads")
    monkeypatch.setattr(gpu_bundle, "THIRD_PARTY", tmp_path / "third_party")
    monkeypatch.setattr(gpu_bundle, "LARGEST", SMALL)
    monkeypatch.setattr(gpu_bundle, "GROUPS", (HEADERS, MINE, GROUPS[-1]))
    return tmp_path / "bundle"


def unpacked(bundle: Path, *, site: str = "site") -> int:
    return gpu_bundle.main(["unpack", "--site", str(bundle.parent / site)])


def test_what_is_packed_is_installed_elsewhere(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_bundle.main(["pack", "--data", str(bundle.parent / "cifar")]) == 0
    manifest = read_manifest(bundle)
    assert manifest is not None
    groups = {group.name: group for group in manifest.groups}
    assert [file.name for file in groups["mine"].files] == ["rc_small-1.0-py3-none-any.whl"]
    assert len(groups["mine"].pieces) == 7  # twice as much as the text, which is hexadecimal, and the archive's blocks
    assert all(piece.size <= SMALL for group in manifest.groups for piece in group.pieces)
    readme = (bundle / "README.md").read_text()
    assert f"| mine.tar.03 | {SMALL} | {groups['mine'].pieces[3].sha256[:16]} | a package to try | kernels |" in readme
    assert "test_batch.bin" in readme

    header = bundle.parent / "third_party" / "onnxruntime" / "api.h"
    header.unlink()
    assert unpacked(bundle) == 0
    said = capsys.readouterr().out
    assert "mine: 1 files in place; installed: rc-small" in said
    assert header.read_text() == "int api();\n"
    assert (bundle / "data" / "cifar-10-batches-bin" / "test_batch.bin").read_bytes() == b"1" * 10
    command = [sys.executable, "-c", "import rc_small; print(len(rc_small.TEXT))"]
    environment = {**os.environ, "PYTHONPATH": str(bundle.parent / "site")}
    assert subprocess.check_output(command, env=environment, text=True).strip() == str(6 * SMALL)
    assert unpacked(bundle) == 0
    assert "there already: rc-small" in capsys.readouterr().out


def test_what_is_there_and_right_is_kept(bundle: Path) -> None:
    def times() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in bundle.glob("*.tar.*")}

    assert gpu_bundle.main(["pack"]) == 0
    before, content = times(), (bundle / "mine.tar.02").read_bytes()
    assert gpu_bundle.main(["pack"]) == 0
    assert times() == before
    (bundle / "mine.tar.02").write_bytes(b"x" + content[1:])
    (bundle / "mine.tar.99").touch()  # of an earlier, larger group
    assert gpu_bundle.main(["pack", "--only", "mine"]) == 0
    assert (bundle / "mine.tar.02").read_bytes() == content
    assert set(times()) == set(before)
    manifest = read_manifest(bundle)
    assert manifest is not None
    assert {group.name for group in manifest.groups} == {"headers", "mine"}
    (bundle / "MANIFEST.json").write_text("{")
    assert gpu_bundle.main(["pack"]) == 0
    assert read_manifest(bundle) == manifest


def test_pieces_come_one_after_the_other(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_bundle.main(["pack"]) == 0
    piece = bundle / "mine.tar.01"
    content = piece.read_bytes()
    piece.unlink()
    assert unpacked(bundle) == 1
    printed = capsys.readouterr()
    assert "mine: mine.tar.01 of 7 pieces not there: bring them." in printed.err
    assert "headers: 1 files in place" in printed.out
    piece.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert unpacked(bundle) == 1
    assert "mine: mine.tar.01 is damaged, its SHA-256 is another: bring it again." in capsys.readouterr().err
    assert not (bundle.parent / "site").exists()
    assert not (bundle / "wheels").exists()
    piece.write_bytes(content)
    assert unpacked(bundle) == 0
    # What is in place wants its pieces no more.
    piece.unlink()
    assert unpacked(bundle, site="another") == 0


def test_what_cannot_be_had_leaves_the_rest(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = Group("missing", "nothing", (), ("rc-no-such-package",))
    monkeypatch.setattr(gpu_bundle, "GROUPS", (missing, HEADERS))
    assert gpu_bundle.main(["pack"]) == 1
    printed = capsys.readouterr()
    assert "missing: left out. `pip download` failed" in printed.err
    assert "rc-no-such-package" in printed.err
    assert "headers: 1 pieces" in printed.out
    assert gpu_bundle.main(["pack", "--with", "tensort"]) == 1
    assert "there is no group 'tensort': they are headers, missing." in capsys.readouterr().err


def test_packages_for_another_python_are_not_installed(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_bundle.main(["pack", "--python", "3.9"]) == 0
    assert unpacked(bundle) == 1
    printed = capsys.readouterr()
    assert re.search(r"mine: its packages are for Python 3\.9, .*: `make gpu-bundle` takes FOR=X\.Y", printed.err)
    assert "headers: 1 files in place" in printed.out


def test_nothing_to_unpack_is_said(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert unpacked(bundle) == 1
    assert "bring it, with the pieces of `make gpu-bundle`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("pieces", [{"name": "../mine.tar.00", "size": 1, "sha256": ""}], "is no name of a piece"),
        ("pieces", [{"name": "/etc/passwd", "size": 1, "sha256": ""}], "is no name of a piece"),
        ("files", [{"name": "../outside", "size": 1, "sha256": ""}], "leads out of the folder"),
        ("files", [{"name": "a/../../outside", "size": 1, "sha256": ""}], "leads out of the folder"),
        ("files", [{"name": "/outside", "size": 1, "sha256": ""}], "leads out of the folder"),
        ("files", "none", "is no manifest"),
        ("content", "site", "belongs in 'site', which is not known"),
    ],
)
def test_hostile_manifest_is_refused(
    key: str, value: Any, problem: str, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu_bundle.main(["pack", "--only", "mine"]) == 0
    manifest = json.loads((bundle / "MANIFEST.json").read_text())
    manifest["groups"][0][key] = value
    (bundle / "MANIFEST.json").write_text(json.dumps(manifest))
    before = sorted(bundle.parent.rglob("*"))
    assert unpacked(bundle) == 1
    assert problem in capsys.readouterr().err
    assert sorted(bundle.parent.rglob("*")) == before


def archive(folder: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Packed:
    """An archive in one piece, of which the manifest lists a file `a` of four bytes."""
    folder.mkdir()
    path = folder / "x.tar.00"
    with tarfile.open(path, "w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    wanted = Listed("a", 4, "81cc4b9c8b8ef9fb1b9ed7e7a7a1b7ed3a4d6c5b1c9e4f1b8d3f2e1a0c9b8d7e")
    return Packed("x", "", (), "wheels", (), (), (wanted,), (listed(path, path.name),))


def link(name: str, to: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, to
    return member


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([(tarfile.TarInfo("../b"), b"1234")], "has '../b', which the manifest does not list"),
        ([(tarfile.TarInfo("b"), b"1234")], "has 'b', which the manifest does not list"),
        ([(link("a", "/etc"), b"")], "has 'a', which the manifest does not list"),
        ([(tarfile.TarInfo("a"), b"1234")], "a is not what the manifest lists"),
        ([], "has no a"),
    ],
    ids=["outside", "unlisted", "link", "other content", "nothing"],
)
def test_archive_with_something_else_is_refused(
    members: list[tuple[tarfile.TarInfo, bytes]], problem: str, tmp_path: Path
) -> None:
    group = archive(tmp_path / "bundle", *members)
    with pytest.raises(BundleError, match=re.escape(problem)):
        join(group, tmp_path / "bundle", tmp_path / "target")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["x.tar.00"]


def test_no_link_leads_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    pieces = cut({"sub/a": tmp_path / "file"}, "x", tmp_path)
    group = Packed("x", "", (), "wheels", (), (), (listed(tmp_path / "file", "sub/a"),), pieces)
    (tmp_path / "outside").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "sub").symlink_to(tmp_path / "outside")
    with pytest.raises(BundleError, match="sub/a lies behind a link"):
        join(group, tmp_path, tmp_path / "target")
    assert list((tmp_path / "outside").iterdir()) == []
    (tmp_path / "target" / "sub").unlink()
    join(group, tmp_path, tmp_path / "target")
    assert (tmp_path / "target" / "sub" / "a").read_text() == "text"


def test_groups_are_for_parts_that_there_are() -> None:
    parts = {part.name for part in gpu_check.parts(rehearse=False)} | {"make gpu-train"}
    assert {name for group in GROUPS for name in group.wanted_by} <= parts
    assert len({group.name for group in GROUPS}) == len(GROUPS)
    assert LARGEST == 60 * 2**20


@pytest.mark.parametrize(
    "module",
    ["scipy", "onnx_ir", "typer", "rich", "pytest", "pytest_timeout", "PIL", "pycuda", "tensorrt", "tensorrt_rtx"],
)
def test_what_parts_want_is_brought(module: str) -> None:
    assert re.fullmatch(r"`make gpu-bundle( WITH=\S+)?` brings it in \S+\.tar", bringing(module))
    assert bringing("torch") == ""
