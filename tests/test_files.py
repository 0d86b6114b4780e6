"""Writing files: through links, together, and what their bytes are held against."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rc_deploy.errors import OutputError
from rc_deploy.files import atomic_write, holds, together, write_bytes


def test_links_are_written_through(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    target, link, dangling = tmp_path / "deep" / "target", tmp_path / "link", tmp_path / "dangling"
    target.write_bytes(b"earlier")
    link.symlink_to("deep/target")
    dangling.symlink_to("deep/new")
    write_bytes(link, b"one")
    write_bytes(dangling, b"two")
    with atomic_write(link) as temporary:
        assert temporary.parent == target.parent
        temporary.write_bytes(b"three")
    assert link.is_symlink()
    assert dangling.is_symlink()
    assert (target.read_bytes(), (tmp_path / "deep" / "new").read_bytes()) == (b"three", b"two")
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    with pytest.raises(OutputError, match="Too many levels"):
        write_bytes(loop, b"")
    assert loop.is_symlink()


def refused(*_: object, **__: object) -> None:
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def test_no_earlier_file_is_replaced_unless_all_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk that fills up while the second is copied, say."""
    (tmp_path / "first").write_text("earlier")
    monkeypatch.setattr(os, "link", refused)
    copied: list[str] = []

    def copy_once(source: str, target: Path) -> None:
        if copied:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copied.append(source)
        target.write_bytes(Path(source).read_bytes())

    monkeypatch.setattr("rc_deploy.files.shutil.copyfile", copy_once)
    with together() as files:
        for name in ("first", "second"):
            files.write(tmp_path / name, b"new")
        with pytest.raises(OutputError, match="second could not be written: No space left"):
            files.replace()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("first", "earlier")]


@pytest.mark.parametrize("without", [None, "O_TMPFILE", "support", "names"])
def test_files_that_belong_together_are_as_any_others(
    without: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the system, and the file system, have files without a name or not."""
    if without == "O_TMPFILE":
        monkeypatch.delattr(os, "O_TMPFILE")
    elif without == "support":
        monkeypatch.setattr(os, "O_TMPFILE", os.O_CREAT)  # of a folder is refused, as where there is no support
    elif without == "names":
        monkeypatch.setattr(os, "link", refused)
    before, unnamed = set(tmp_path.iterdir()), without in (None, "names")
    with together() as files:
        for name in ("first", "second"):
            files.write(tmp_path / name, name.encode())
        assert (set(tmp_path.iterdir()) == before) is unnamed
        files.replace()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"first": "first", "second": "second"}
    (tmp_path / "plain").touch()
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 21) + 7])
def test_a_file_holds_its_own_bytes_alone(size: int, tmp_path: Path) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    path = tmp_path / "file"
    path.write_bytes(content[:size])
    assert holds(path, content[:size])
    assert not holds(path, content[: size + 1])
    for place in {0, size // 2, size - 1} if size else ():
        changed = bytearray(content[:size])
        changed[place] ^= 1
        assert not holds(path, bytes(changed))
