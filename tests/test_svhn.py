"""SVHN: small files in its official format, and files that are not what they should be."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from rc_deploy import data, optional
from rc_deploy.data import svhn
from rc_deploy.errors import InputError, MissingDependencyError

COUNT = 12
OFFICIAL = dict(svhn.RECORDS)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(svhn.RECORDS, "test", COUNT)
    monkeypatch.setitem(svhn.RECORDS, "train", COUNT)


def arrays(count: int = COUNT) -> dict[str, Any]:
    """X (32, 32, 3, N), whose values say where they are, and y (N, 1) from 1 to 10."""
    row, column, channel, index = np.indices((32, 32, 3, count))
    pixels = (row * 7 + column * 3 + channel * 50 + index).astype(np.uint8)
    return {"X": pixels, "y": (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]}


def write(folder: Path, compress: bool = True, **changed: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "test_32x32.mat"
    scipy.io.savemat(path, {**arrays(), **changed}, do_compression=compress)
    return path


def test_the_official_numbers_of_images() -> None:
    assert OFFICIAL == {"train": 73_257, "test": 26_032}  # the paper, Sec. 5.1


@pytest.mark.parametrize("compress", [True, False])
def test_the_official_layout(compress: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "svhn", compress)
    found = data.load("svhn:test", tmp_path)
    assert found.images.shape == (COUNT, 3, 32, 32)
    assert found.images.flags.c_contiguous
    # (7 row + 3 column + 50 channel + index) mod 256
    assert found.images[5, 2, 20, 30] == (7 * 20 + 3 * 30 + 100 + 5) % 256
    assert found.labels is not None
    assert found.labels.dtype == np.int64
    assert found.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]  # 10 stands for the digit 0
    assert found.classes == tuple("0123456789")
    assert data.files_of("svhn:test", tmp_path) == [path]
    assert len(data.load("svhn:test", path.parent, limit=4)) == 4


def test_without_scipy_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "svhn")
    monkeypatch.setattr(optional, "is_installed", lambda name: name != "scipy")
    with pytest.raises(MissingDependencyError, match="SVHN needs SciPy") as caught:
        data.load("svhn:test", tmp_path)
    assert caught.value.hint == "pip install 'rc-deploy[data]'"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def spoil_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 100] = bytes(100)
    path.write_bytes(content)


def claim_terabytes(path: Path) -> None:
    """A header of an array X (32, 32, 3, 2**31 - 1) and nothing after it."""
    body = struct.pack("<IIII", 6, 8, 9, 0) + struct.pack("<II4i", 5, 16, 32, 32, 3, 2**31 - 1)
    body += struct.pack("<HH4s", 1, 1, b"X") + struct.pack("<II", 2, 0)
    packed = zlib.compress(struct.pack("<II", 14, len(body)) + body)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49)
    path.write_bytes(header + struct.pack("<II", 15, len(packed)) + packed)


@pytest.mark.parametrize(
    ("spoil", "phrase"),
    [
        (Path.unlink, "There is no svhn"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file"), "is not SVHN's"),
        (lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)), "is not SVHN's"),
        (cut, "is not SVHN's"),
        (spoil_middle, "is not SVHN's"),
        (claim_terabytes, "its array X is (32, 32, 3, 2147483647), not (32, 32, 3, 12)"),
        (lambda path: write(path.parent, X=arrays(11)["X"]), "its array X is (32, 32, 3, 11), not (32, 32, 3, 12)"),
        (lambda path: write(path.parent, y=arrays(13)["y"]), "its array y is (13, 1), not (12, 1)"),
        (lambda path: write(path.parent, X=arrays()["X"].astype(float)), "its arrays are float64"),
        (lambda path: write(path.parent, y=arrays()["y"] - 1), "labels other than 1 to 10"),
        (lambda path: write(path.parent, y=arrays()["y"] + 1), "labels other than 1 to 10"),
        (lambda path: scipy.io.savemat(path, {"X": arrays()["X"]}), "its array y is missing"),
    ],
    ids=[
        "missing", "empty", "header only", "junk", "cut", "damaged", "terabytes", "short", "labels", "float", "0", "11",
        "no labels",
    ],
)  # fmt: skip
def test_what_is_not_svhn_is_refused(spoil: Callable[[Path], object], phrase: str, tmp_path: Path) -> None:
    spoil(write(tmp_path / "svhn"))
    with pytest.raises(InputError) as caught:
        data.load("svhn:test", tmp_path)
    assert phrase in str(caught.value)
    if phrase != "is empty":
        assert f"rc-deploy download svhn --data-dir {tmp_path}" in caught.value.hint
