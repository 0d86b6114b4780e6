"""Downloads: what is taken from a server, what is refused, and what is left on the disk either way."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import re
import tarfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from rc_deploy import data
from rc_deploy.cli.boundary import main
from rc_deploy.data import cifar, download, svhn
from rc_deploy.data.download import Remote
from rc_deploy.errors import InputError, OutputError, RcDeployError, UnsupportedError

FOLDER = "cifar-10-batches-bin"
ABSOLUTE = "/tmp/rc-deploy-evil"  # noqa: S108 (nothing is to be written there)
COMMAND = "rc-deploy download cifar10 --data-dir DIR"
FILES = {
    "data_batch_1.bin": np.random.default_rng(0).bytes(250_000),
    "test_batch.bin": b"test" * 500,
    "batches.meta.txt": b"cat\ndog\n",
}
SIZES: dict[str, int | None] = {"data_batch_1.bin": 250_000, "test_batch.bin": 2_000, "batches.meta.txt": None}


@dataclass
class Reply:
    """What the server does with a request.

    Attributes:
        body: of the file.
        ranges: whether parts of it can be asked for.
        cut: bytes after which the connection breaks; None for never.
        location: an address to go on to.
    """

    body: bytes = b""
    ranges: bool = True
    cut: int | None = None
    location: str = ""
    asked: list[str | None] = field(default_factory=list)


class Official(BaseHTTPRequestHandler):
    replies: ClassVar[dict[str, Reply]] = {}

    def do_GET(self) -> None:
        reply = self.replies.get(self.path)
        if reply is None:
            self.send_error(404)
            return
        wanted = self.headers["Range"]
        reply.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and reply.ranges else 0
        self.send_response(302 if reply.location else 206 if start else 200)
        if reply.location:
            self.send_header("Location", reply.location)
        self.send_header("Content-Length", str(len(reply.body) - start))
        self.end_headers()
        self.wfile.write(reply.body[start : reply.cut])

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Its address; it speaks no TLS, so that plain HTTP is let in."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "HANDLERS", (*download.HANDLERS, urllib.request.HTTPHandler))
    Official.replies = {}
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Official)
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    thread.join()
    listening.server_close()


def packed(files: dict[str, bytes], member: tarfile.TarInfo | None = None) -> bytes:
    """A .tar.gz of files in FOLDER, after another member."""
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w:gz") as tar:
        if member is not None:
            tar.addfile(member, io.BytesIO(b"evil!"[: member.size]))
        for name, content in files.items():
            info = tarfile.TarInfo(f"{FOLDER}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return memory.getvalue()


def offered(server: str, body: bytes, **how: Any) -> Remote:
    """The server's file, pinned as it is."""
    Official.replies["/cifar.tar.gz"] = Reply(body, **how)
    return Remote(f"{server}/cifar.tar.gz", len(body), hashlib.sha256(body).hexdigest(), FOLDER, SIZES)


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def refusal(error: type[RcDeployError], call: Callable[[], object]) -> str:
    with pytest.raises(error) as caught:
        call()
    return f"{caught.value} {caught.value.hint}"


def test_a_download_is_unpacked_and_nothing_else_stays(server: str, tmp_path: Path) -> None:
    remote = offered(server, packed({**FILES, "readme.html": b"hello"}))
    seen: list[tuple[int, int]] = []
    root = tmp_path / "new" / "data"
    written = download.download([remote], root, COMMAND, lambda done, total: seen.append((done, total)))
    assert {path.name: path.read_bytes() for path in written} == FILES
    assert names(root) == sorted(f"{FOLDER}/{name}" for name in FILES)
    assert seen[-1] == (remote.size, remote.size)


def test_what_is_there_is_not_brought_again(server: str, tmp_path: Path) -> None:
    remote = offered(server, packed(FILES))
    download.download([remote], tmp_path, COMMAND)
    assert download.download([remote], tmp_path, COMMAND) == []
    assert len(Official.replies["/cifar.tar.gz"].asked) == 1


def test_only_what_is_damaged_is_replaced(server: str, tmp_path: Path) -> None:
    remote = offered(server, packed(FILES))
    download.download([remote], tmp_path, COMMAND)
    kept, damaged = tmp_path / FOLDER / "data_batch_1.bin", tmp_path / FOLDER / "test_batch.bin"
    number = kept.stat().st_ino
    damaged.write_bytes(b"short")
    assert download.download([remote], tmp_path, COMMAND) == [damaged]
    assert damaged.read_bytes() == FILES["test_batch.bin"]
    assert kept.stat().st_ino == number


@pytest.mark.parametrize("ranges", [True, False], ids=["resumes", "begins anew"])
def test_a_broken_download_is_completed(server: str, tmp_path: Path, ranges: bool) -> None:
    body = packed({**FILES, "noise": np.random.default_rng(0).bytes(900_000)})
    remote = offered(server, body, cut=600_000, ranges=ranges)
    message = refusal(UnsupportedError, lambda: download.download([remote], tmp_path, COMMAND))
    assert f"of {len(body):,} bytes" in message
    assert f"What arrived is kept; go on with: {COMMAND}" in message
    assert names(tmp_path) == ["cifar.tar.gz.part"]
    arrived = (tmp_path / "cifar.tar.gz.part").stat().st_size
    assert 0 < arrived <= 600_000
    Official.replies["/cifar.tar.gz"].cut = None
    download.download([remote], tmp_path, COMMAND)
    assert names(tmp_path) == sorted(f"{FOLDER}/{name}" for name in FILES)
    assert Official.replies["/cifar.tar.gz"].asked == [None, f"bytes={arrived}-"]


@pytest.mark.parametrize(
    ("spoil", "phrase"),
    [
        (lambda body: body[:-1] + b"?", "has SHA-256"),
        (lambda body: body + b"more", "the official cifar.tar.gz has"),
        (lambda body: body[:-100], "ended after"),
    ],
    ids=["tampered", "longer", "shorter"],
)
def test_another_file_is_refused_and_deleted(
    spoil: Callable[[bytes], bytes], phrase: str, server: str, tmp_path: Path
) -> None:
    remote = offered(server, packed(FILES))
    reply = Official.replies["/cifar.tar.gz"]
    reply.body = spoil(reply.body)
    assert phrase in refusal(RcDeployError, lambda: download.download([remote], tmp_path, COMMAND))
    # What is only too short may be the beginning of the right file.
    assert names(tmp_path) == (["cifar.tar.gz.part"] if "ended" in phrase else [])


def test_a_stale_beginning_is_found_out(server: str, tmp_path: Path) -> None:
    remote = offered(server, packed(FILES))
    (tmp_path / "cifar.tar.gz.part").write_bytes(b"something else")
    assert "has SHA-256" in refusal(InputError, lambda: download.download([remote], tmp_path, COMMAND))
    assert len(download.download([remote], tmp_path, COMMAND)) == 3


def link(kind: bytes, name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def evil(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = 5
    return member


@pytest.mark.parametrize(
    "member",
    [
        evil("../evil"),
        evil(f"{FOLDER}/../../evil"),
        evil(ABSOLUTE),
        link(tarfile.SYMTYPE, FOLDER, ".."),
        link(tarfile.SYMTYPE, f"{FOLDER}/test_batch.bin", "/etc/passwd"),
        link(tarfile.LNKTYPE, f"{FOLDER}/test_batch.bin", "../evil"),
        link(tarfile.CHRTYPE, f"{FOLDER}/test_batch.bin", ""),
        link(tarfile.FIFOTYPE, f"{FOLDER}/test_batch.bin", ""),
    ],
    ids=lambda member: f"{member.type.decode()} {member.name}",
)
def test_hostile_archives_are_refused(member: tarfile.TarInfo, server: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    remote = offered(server, packed(FILES, member))
    message = refusal(InputError, lambda: download.download([remote], root, COMMAND))
    assert "which is a link, a device or leads elsewhere" in message
    assert names(tmp_path) == []
    assert not Path(ABSOLUTE).exists()


@pytest.mark.parametrize(
    ("body", "phrase"),
    [
        (b"no archive at all", "is not a .tar.gz"),
        (packed(FILES)[:-9000], "is not a .tar.gz"),
        (packed(FILES)[:9000] + bytes(9000) + packed(FILES)[18000:], "is not a .tar.gz"),
        (packed({"test_batch.bin": FILES["test_batch.bin"]}), f"lacks {FOLDER}/data_batch_1.bin"),
        (packed({**FILES, "test_batch.bin": b"short"}), "test_batch.bin of 5 bytes"),
        (packed({**FILES, "batches.meta.txt": bytes(2**20 + 1)}), "batches.meta.txt of 1,048,577 bytes"),
        (packed({**FILES, "batches.meta.txt": b""}), "batches.meta.txt of 0 bytes"),
    ],
    ids=["junk", "truncated", "damaged", "incomplete", "short file", "bomb", "empty file"],
)
def test_archives_that_hold_something_else_are_refused(body: bytes, phrase: str, server: str, tmp_path: Path) -> None:
    place = tmp_path / FOLDER
    place.mkdir()
    (place / "data_batch_1.bin").write_bytes(FILES["data_batch_1.bin"])
    assert phrase in refusal(InputError, lambda: download.download([offered(server, body)], tmp_path, COMMAND))
    assert names(tmp_path) == [f"{FOLDER}/data_batch_1.bin"]


def test_without_network_the_message_says_what_to_do(server: str, tmp_path: Path) -> None:
    remote = replace(offered(server, packed(FILES)), url=f"{server}/gone.tar.gz")
    message = refusal(UnsupportedError, lambda: download.download([remote], tmp_path, COMMAND))
    assert f"{server}/gone.tar.gz cannot be reached: HTTP Error 404" in message
    assert f"put it at {tmp_path / 'gone.tar.gz'}, then: {COMMAND}" in message
    single = replace(remote, url="http://127.0.0.1:1/train_32x32.mat", sizes=None, folder="svhn")
    message = refusal(UnsupportedError, lambda: download.download([single], tmp_path, COMMAND))
    assert "cannot be reached: [Errno 111] Connection refused." in message
    assert f"put it at {tmp_path / 'svhn' / 'train_32x32.mat'}, then" in message
    assert names(tmp_path) == []


def test_an_archive_put_there_by_hand_is_used_and_kept(tmp_path: Path) -> None:
    body = packed(FILES)
    remote = Remote("https://127.0.0.1:1/cifar.tar.gz", len(body), hashlib.sha256(body).hexdigest(), FOLDER, SIZES)
    (tmp_path / "cifar.tar.gz").write_bytes(body[:-1])
    message = refusal(InputError, lambda: download.download([remote], tmp_path, COMMAND))
    assert f"the official cifar.tar.gz has {len(body):,}. Move it away, then: {COMMAND}" in message
    (tmp_path / "cifar.tar.gz").write_bytes(body)
    assert len(download.download([remote], tmp_path, COMMAND)) == 3
    assert (tmp_path / "cifar.tar.gz").read_bytes() == body


def test_only_https_is_spoken(tmp_path: Path) -> None:
    for url in ("http://127.0.0.1:1/x.tar.gz", "ftp://127.0.0.1/x.tar.gz", "file:///etc/passwd"):
        remote = Remote(url, 1, "", FOLDER, SIZES)
        message = refusal(UnsupportedError, lambda remote=remote: download.download([remote], tmp_path, COMMAND))  # type: ignore[misc]
        assert "unknown url type" in message


def test_a_redirection_out_of_https_is_not_followed(server: str, tmp_path: Path) -> None:
    remote = offered(server, packed(FILES), location="ftp://127.0.0.1/x.tar.gz")
    assert "cannot be reached" in refusal(UnsupportedError, lambda: download.download([remote], tmp_path, COMMAND))


def test_two_downloads_do_not_write_to_one_file(server: str, tmp_path: Path) -> None:
    remote = offered(server, packed(FILES))
    with (tmp_path / "cifar.tar.gz.part").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        message = refusal(OutputError, lambda: download.download([remote], tmp_path, COMMAND))
        assert "Another download is writing" in message
    assert len(download.download([remote], tmp_path, COMMAND)) == 3


def test_a_folder_that_cannot_be_made_is_an_output_error(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    remote = offered(server, packed(FILES))
    message = refusal(OutputError, lambda: download.download([remote], tmp_path / "file", COMMAND))
    assert "could not be written" in message


def test_single_files_are_held_against_their_hash(server: str, tmp_path: Path) -> None:
    body = b"MATLAB"
    Official.replies["/test_32x32.mat"] = Reply(body)
    remote = Remote(f"{server}/test_32x32.mat", 6, hashlib.sha256(body).hexdigest(), "svhn")
    path = tmp_path / "svhn" / "test_32x32.mat"
    assert download.download([remote], tmp_path, COMMAND) == [path]
    assert download.download([remote], tmp_path, COMMAND) == []
    path.write_bytes(b"matlab")  # the right size
    assert download.download([remote], tmp_path, COMMAND) == [path]
    assert names(tmp_path) == ["svhn/test_32x32.mat"]
    assert path.read_bytes() == body


def test_what_is_pinned_is_what_the_loaders_read() -> None:
    assert set(download.REMOTES) == {"cifar10", "cifar100", "svhn"}
    hosts = {"www.cs.toronto.edu", "ufldl.stanford.edu"}
    for name, wanted in download.REMOTES.items():
        for remote in wanted:
            assert re.fullmatch(r"https://([^/]+)/.*", remote.url)[1] in hosts  # type: ignore[index]
            assert re.fullmatch(r"[0-9a-f]{64}", remote.sha256)
            assert 60_000_000 < remote.size < 200_000_000
            if name in cifar.LAYOUTS:
                layout = cifar.LAYOUTS[name]
                assert remote.folder == layout.folder
                assert set(remote.sizes or ()) == {layout.names, *layout.files["train"], *layout.files["test"]}
                assert sum(size or 0 for size in (remote.sizes or {}).values()) == 60_000 * (3072 + layout.label_bytes)
    assert [remote.name for remote in download.REMOTES["svhn"]] == list(svhn.FILES.values())


def test_the_command(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From an address to images, through the command line."""
    small = replace(cifar.LAYOUTS["cifar10"], files={"train": {"data_batch_1.bin": 2}, "test": {"test_batch.bin": 1}})
    monkeypatch.setitem(cifar.LAYOUTS, "cifar10", small)
    records = {"data_batch_1.bin": bytes(2 * 3073), "test_batch.bin": bytes([1]) + bytes([7] * 3072)}
    remote = offered(server, packed({**records, "batches.meta.txt": b"cat\ndog\n"}))
    sizes = {**small.sizes("train"), **small.sizes("test"), small.names: None}
    monkeypatch.setitem(download.REMOTES, "cifar10", (replace(remote, sizes=sizes),))

    def run(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["rc-deploy", "download", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0)

    monkeypatch.delenv("RC_DATA", raising=False)
    assert run("cifar10") == 3
    assert "No folder was given" in capsys.readouterr().err
    assert run("imagenet", "--data-dir", str(tmp_path)) == 3
    assert "may not be passed on" in capsys.readouterr().err
    assert run("mnist", "--data-dir", str(tmp_path)) == 3
    assert run("cifar10", "--data-dir", str(tmp_path), "--json", str(tmp_path / FOLDER / "test_batch.bin")) == 4
    assert not any(tmp_path.iterdir())
    monkeypatch.setenv("RC_DATA", str(tmp_path))
    capsys.readouterr()
    assert run("cifar10", "--json", "-") == 0
    outcome = json.loads(capsys.readouterr().out)
    assert (outcome["dataset"], len(outcome["written"])) == ("cifar10", 3)
    assert run("cifar10") == 0
    assert "all of it was there already" in capsys.readouterr().out
    test = data.load("cifar10:test")
    assert test.labels is not None
    assert (test.labels.tolist(), test.images.min(), test.classes) == ([1], 7, ("cat", "dog"))
