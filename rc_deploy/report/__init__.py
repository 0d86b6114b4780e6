"""The report stage: from the JSON documents of the other commands to one self-contained HTML file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rc_deploy.artefacts import Kind
from rc_deploy.decode import clean
from rc_deploy.files import digest, json_bytes, write_bytes
from rc_deploy.optional import require
from rc_deploy.outputs import require_outputs
from rc_deploy.report.documents import Documents, document, load
from rc_deploy.report.page import render
from rc_deploy.report.summary import Summary, summarise
from rc_deploy.report.svg import NEEDED_BY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["DEFAULT_TITLE", "Summary", "build_report", "report_on", "require_report"]

DEFAULT_TITLE = "rc-deploy report"


def build_report(sources: Sequence[Path], output: Path, title: str = DEFAULT_TITLE) -> Summary:
    """Write one HTML file on training, validations, builds and benchmarks.

    The same documents give the same file, byte for byte. Kinds of document that are missing leave their sections out.

    Args:
        sources: JSON documents of `train`, `validate` and `bench`, manifests of `build`, and folders of them; in a
            folder, other JSON files are passed over.
        output: HTML file to write; an earlier one stays until the new one is complete.
        title: of the page.

    Returns:
        What stands at the head of the page.

    Raises:
        InputError: no document, or one that is missing, damaged, of another version or not one of ours.
        OutputError: `output` cannot be written, is one of the documents, or is an artefact.
        MissingDependencyError: Matplotlib is not installed, and there is something to plot.
    """
    documents = load(sources)
    require_outputs([(output, Kind.REPORT)], [document.path for document in documents.all])
    return _write(documents, output, title)


def require_report(output: Path, inputs: Sequence[Path], json_to: str | None) -> None:
    """Require that `report_on` will be able to write `output`; called before long work.

    Args:
        output: HTML file to write.
        inputs: files that the command reads.
        json_to: what --json says; None without it.

    Raises:
        OutputError: `output` cannot be written, is one of the other files, or is an artefact.
        MissingDependencyError: Matplotlib is not installed.
    """
    written = [] if json_to in (None, "-") else [Path(str(json_to))]
    require_outputs([(output, Kind.REPORT)], [*inputs, *written])
    require("matplotlib.figure", NEEDED_BY)


def report_on(json_to: str | None, content: Mapping[str, Any], output: Path) -> Summary:
    """Write one HTML file on what a command has just found, as `build_report` would on its JSON document.

    Args:
        json_to: what --json says, which is where the document lies; None without it.
        content: the document.
        output: HTML file to write; see `require_report`.

    Raises:
        OutputError: `output` cannot be written.
    """
    written = json_bytes(content)
    path = Path(f"{output.stem}.json" if json_to in (None, "-") else str(json_to))
    return _write(Documents((document(path, digest(written), json.loads(written)),)), output, DEFAULT_TITLE)


def _write(documents: Documents, output: Path, title: str) -> Summary:
    summary = summarise(documents)
    write_bytes(output, render(documents, summary, clean(title)).encode())
    return summary
