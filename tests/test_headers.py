"""plugins/headers.py: what it takes where the registries fail, and what it refuses to take."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import io
import tarfile
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

HEADERS = Path(__file__).parents[1] / "plugins" / "headers.py"
HEADER = b"#define API 21\n"


class Vendor(BaseHTTPRequestHandler):
    """Answers with what `files` says: a body, or an address to go on to."""

    files: ClassVar[dict[str, bytes | str]] = {}

    def do_GET(self) -> None:
        found = self.files.get(self.path)
        if isinstance(found, str):
            self.send_response(302)
            self.send_header("Location", found)
        else:
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(found or b"")))
        self.end_headers()
        if isinstance(found, bytes):
            self.wfile.write(found)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server of files, without a proxy in between."""
    monkeypatch.setenv("no_proxy", "*")
    Vendor.files = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Vendor)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def headers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The module as it is, without registries; this server speaks no TLS, so that plain HTTP is let in."""
    specification = importlib.util.spec_from_file_location("headers", HEADERS)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(__import__("sys").modules, "headers", module)
    specification.loader.exec_module(module)

    def unreachable(package: Any, folder: Path) -> Path:
        raise module.HeadersError("there is no network")

    monkeypatch.setattr(module, "_from_registry", unreachable)
    monkeypatch.setattr(module, "DESTINATION", tmp_path / "third_party")
    monkeypatch.setattr(module, "HANDLERS", (*module.HANDLERS, urllib.request.HTTPHandler))
    return module


def archive(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    """A .tar.gz of files, and of symbolic links."""
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return memory.getvalue()


def published(headers: ModuleType, vendor: str, content: bytes, **changes: Any) -> Any:
    """A package of headers with `content` as its vendor's release, found by no system."""
    Vendor.files["/v1/lib-1.tgz"] = content
    sha256 = hashlib.sha256(content).hexdigest()
    release = headers.Release(f"{vendor}/v1/lib-1.tgz", sha256, 10_000, "lib-1/include")
    package = dataclasses.replace(headers.PACKAGES[0], proof="include/api.h", found_by_system="")
    return dataclasses.replace(package, vendor=dataclasses.replace(release, **changes))


def refused(headers: ModuleType, package: Any) -> str:
    """Bring a package that must not arrive; return why it did not."""
    with pytest.raises(headers.HeadersError) as error:
        headers.bring(package, None)
    assert not headers.DESTINATION.exists()
    return str(error.value)


RELEASE = {"lib-1/include/api.h": HEADER, "lib-1/include/more/b.h": b"b", "lib-1/lib/lib.so.1": b"code"}


def test_vendor_serves_where_the_registry_fails(headers: ModuleType, vendor: str) -> None:
    # A library's usual link beside the headers is no reason to refuse them, and is not unpacked.
    package = published(headers, vendor, archive(RELEASE, {"lib-1/lib/lib.so": "lib.so.1"}))
    said = headers.bring(package, None)
    assert said == f"from the vendor, {vendor}/v1/lib-1.tgz (Debian: there is no network)"
    folder = headers.DESTINATION / package.name
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {"include/api.h": HEADER, "include/more/b.h": b"b"}
    Vendor.files.clear()
    assert headers.bring(package, None) == "there already"


def test_sources_with_a_build_file_stay_as_they_are(headers: ModuleType, vendor: str) -> None:
    content = archive({"lib-1/CMakeLists.txt": b"project(x)", "lib-1/include/api.h": HEADER})
    package = dataclasses.replace(published(headers, vendor, content, folder="lib-1"), proof="CMakeLists.txt")
    headers.bring(package, None)
    assert (headers.DESTINATION / package.name / "CMakeLists.txt").read_bytes() == b"project(x)"


def test_registry_is_asked_first(headers: ModuleType, vendor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def served(package: Any, folder: Path) -> Path:
        (folder / "api.h").write_bytes(HEADER)
        return folder

    monkeypatch.setattr(headers, "_from_registry", served)
    package = published(headers, vendor, archive(RELEASE))
    Vendor.files.clear()
    assert headers.bring(package, None) == "from Debian"


def test_redirections_are_followed(headers: ModuleType, vendor: str) -> None:
    package = published(headers, vendor, archive(RELEASE))
    Vendor.files |= {"/elsewhere": Vendor.files["/v1/lib-1.tgz"], "/v1/lib-1.tgz": f"{vendor}/elsewhere"}
    assert headers.bring(package, None).startswith("from the vendor")


def test_tampered_archive_is_not_unpacked(headers: ModuleType, vendor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(*arguments: Any) -> None:
        raise AssertionError("unpacked before its hash was known")

    monkeypatch.setattr(headers, "_unpack", unpack)
    package = published(headers, vendor, archive(RELEASE))
    Vendor.files["/v1/lib-1.tgz"] = archive(RELEASE | {"lib-1/include/api.h": b"#define API 22\n"})
    assert "it is not the pinned one" in refused(headers, package)
    Vendor.files["/v1/lib-1.tgz"] = archive(RELEASE)[:-20]
    assert "it is not the pinned one" in refused(headers, package)


def test_download_without_end_is_stopped(headers: ModuleType, vendor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = published(headers, vendor, bytes(200_000), size=100_000)
    assert "larger than the 100000 bytes" in refused(headers, package)
    monkeypatch.setattr(headers, "LONGEST", -1)
    assert "did not arrive within -1 s" in refused(headers, published(headers, vendor, archive(RELEASE)))


@pytest.mark.parametrize(
    ("files", "links"),
    [
        ({"lib-1/include/../../../out.h": b""}, {}),
        (RELEASE, {"lib-1/include/link.h": "/etc/passwd"}),
    ],
)
def test_links_and_ways_out_are_refused(
    headers: ModuleType, vendor: str, files: dict[str, bytes], links: dict[str, str]
) -> None:
    assert "leads elsewhere" in refused(headers, published(headers, vendor, archive(files, links)))


def test_absolute_names_are_left_in_the_archive(headers: ModuleType, vendor: str, tmp_path: Path) -> None:
    headers.bring(published(headers, vendor, archive(RELEASE | {f"{tmp_path}/out.h": b""})), None)
    assert not (tmp_path / "out.h").exists()


def test_what_is_not_there_is_said(headers: ModuleType, vendor: str) -> None:
    package = published(headers, vendor, archive(RELEASE))
    Vendor.files.clear()
    said = refused(headers, package)
    assert "Debian: there is no network" in said
    assert "HTTP Error 404" in said


def test_plain_http_is_refused(headers: ModuleType, vendor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = urllib.request.HTTPHandler
    monkeypatch.setattr(headers, "HANDLERS", tuple(kind for kind in headers.HANDLERS if kind is not plain))
    assert "unknown url type: http" in refused(headers, published(headers, vendor, archive(RELEASE)))


def test_pins_are_complete(headers: ModuleType) -> None:
    for package in headers.PACKAGES:
        assert package.vendor.url.startswith("https://github.com/")
        assert len(bytes.fromhex(package.vendor.sha256)) == len(bytes.fromhex(package.sha256)) == 32
        assert package.vendor.folder.rpartition("/")[2] == ("include" if "/" in package.proof else "googletest-1.16.0")
