"""Outputs: which files a command may write; settled before it starts to work, so that no input is ever lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from rc_deploy import manifest
from rc_deploy.artefacts import Kind, recognise
from rc_deploy.errors import OutputError
from rc_deploy.files import require_writable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


def require_outputs(
    outputs: Sequence[tuple[Path, Kind]], inputs: Iterable[Path], hint: str = "Choose another name for the output."
) -> None:
    """Require that each output can be written and replaces nothing but an earlier file of its own kind.

    Args:
        outputs: files to write, and what each will be.
        inputs: files that the command reads, or writes in some other way; an engine brings the files beside it.
        hint: what to do where one of the outputs is one of them.

    Raises:
        OutputError: an output is one of the inputs or named twice, by whatever name or link; it is an artefact of
            another kind; or it cannot be written.
    """
    taken = [file for path in inputs for file in _with_companions(path)]
    for path, kind in outputs:
        require_writable(path)
        for other in taken:
            if _same(path, other):
                name = "" if str(path) == str(other) else f", {other}"
                raise OutputError(
                    f"The output {path} would overwrite a file that this command also reads or writes{name}.",
                    hint,
                )
        if (found := recognise(path)) not in (None, kind):
            raise OutputError(
                f"{path} looks like {found.value}; {kind.value} would replace it.",
                "Choose another name for the output, or move that file away.",
            )
        taken.append(path)


def require_json(target: str | None, others: Iterable[Path]) -> None:
    """Require that what `--json` names can be written; `others` are all files that the command reads or writes.

    Raises:
        OutputError: no name, or as `require_outputs`.
    """
    if target == "":
        raise OutputError("--json names no file: its value is empty.", "Write --json FILE; - is standard output.")
    if target not in (None, "-"):
        require_outputs([(Path(target), Kind.DOCUMENT)], others)


def _with_companions(path: Path) -> Iterator[Path]:
    yield path
    if recognise(path) is Kind.ENGINE:
        yield manifest.path_for(path)
        if record := manifest.typed_onnx_of(path):
            yield path.parent / Path(record.name).name


def _same(first: Path, second: Path) -> bool:
    if os.path.realpath(first) == os.path.realpath(second):
        return True
    try:
        return first.samefile(second)  # two names (hard links) of one file
    except OSError:
        return False
