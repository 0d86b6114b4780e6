"""Reading shared libraries as files: an unknown one is never loaded, for that would run its code.

Formats: ELF-64 (https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.sheader.html); the fat binaries in a library's
section `.nv_fatbin` are not documented, their headers were read off what nvcc writes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

_MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian
_HEADER = struct.Struct("<40xQ10xHHH")  # offset of the section headers; their size, number, and the one with names
_SECTION = struct.Struct("<IIQQQQ")  # name, type, flags, address, offset, size
_FATBIN_MAGIC = b"\x50\xed\x55\xba"
_FATBIN = struct.Struct("<IHHQ")  # magic, version, size of this header, bytes that follow
_CODE = struct.Struct("<HHIQ12xI")  # kind, version, size of this header, bytes of code; compute capability times ten
_PTX, _OWN = 1, 2
# More in a header is damage: no library of the kinds looked for comes near.
_LARGEST = 2**28


class DeviceCode(NamedTuple):
    """Code for GPUs: `ptx` runs on that compute capability (e.g. "8.6") and later, a device's own within its major."""

    compute_capability: str
    ptx: bool


def section(path: Path, name: str) -> bytes:
    """Return the content of a section of an ELF-64 library; empty where there is none, or the file is none."""
    try:
        with path.open("rb") as file:
            return next((_part(file, *place) for title, *place in _sections(file) if title == name.encode()), b"")
    except (OSError, struct.error):
        return b""


def _sections(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, offset and size of each section."""
    head = file.read(_HEADER.size)
    if not head.startswith(_MAGIC):
        return
    offset, size, count, names_index = _HEADER.unpack(head)
    table = _part(file, offset, size * count)
    if size < _SECTION.size or names_index >= count:
        return
    entries = [_SECTION.unpack_from(table, index * size) for index in range(count)]
    names = _part(file, *entries[names_index][4:])
    for entry in entries:
        yield names[entry[0] :].partition(b"\0")[0], entry[4], entry[5]


def _part(file: BinaryIO, offset: int, size: int) -> bytes:
    if max(offset, size) > _LARGEST:
        return b""
    file.seek(offset)
    return file.read(size)


def device_code(fat_binaries: bytes) -> set[DeviceCode]:
    """Return for which GPUs there is code in the content of a section `.nv_fatbin`."""
    found: set[DeviceCode] = set()
    start = fat_binaries.find(_FATBIN_MAGIC)
    while start >= 0 and start + _FATBIN.size <= len(fat_binaries):
        _, _, header, size = _FATBIN.unpack_from(fat_binaries, start)
        found.update(_codes(fat_binaries[start + header : start + header + size]))
        start = fat_binaries.find(_FATBIN_MAGIC, start + max(header, 1) + size)
    return found


def _codes(entries: bytes) -> Iterator[DeviceCode]:
    offset = 0
    while offset + _CODE.size <= len(entries):
        kind, _, header, size, capability = _CODE.unpack_from(entries, offset)
        if kind in (_PTX, _OWN):
            yield DeviceCode(f"{capability // 10}.{capability % 10}", kind == _PTX)
        offset += max(header, 1) + size
