"""The library's own log: kept in a file only if a build fails, and then named by the error."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rc_deploy.artefacts import LOG_MAGIC, Kind, recognise
from rc_deploy.errors import OutputError
from rc_deploy.files import write_bytes

if TYPE_CHECKING:
    from typing import BinaryIO

# What ends a process says so in lines of its own, before Python's account of where it was.
_FATAL = "Fatal Python error:"
_LOGGED = re.compile(r"\[[A-Z_]+\] ")


def place_for(engine: Path) -> Path:
    """Return where the log of a failed build of `engine` goes: m.engine -> m.engine.log."""
    return engine.parent / f"{engine.name}.log"


def read(said: BinaryIO) -> str:
    """Return what the library wrote so far."""
    said.seek(0)
    return said.read().decode(errors="replace")


def keep(place: Path, who: str, words: str) -> Path | None:
    """Write a log, and return where: at `place`, or in the folder for temporary files.

    Nobody named that place, so nothing but an earlier log of ours is replaced there. None where neither can be written.

    Args:
        place: where it should go.
        who: speaks in it.
        words: what it said.
    """
    content = LOG_MAGIC + f": what {who} said in a build that failed\n{words}".encode()
    if not place.exists() or recognise(place) is Kind.LOG:
        try:
            write_bytes(place, content)
        except OutputError:
            pass
        else:
            return place
    try:
        handle, name = tempfile.mkstemp(prefix="rc-deploy-", suffix=".log")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
    except OSError:
        return None
    return Path(name)


def last_words(words: str) -> str:
    """Return the line that C++ printed when it ended the process; empty where it printed none."""
    before, _, _ = words.partition(_FATAL)
    lines = [line.strip() for line in before.splitlines() if line.strip()]
    return lines[-1] if lines and not _LOGGED.match(lines[-1]) else ""
