"""The report stage: from the JSON documents of the other commands to one self-contained HTML file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rc_deploy.artefacts import Kind
from rc_deploy.decode import clean
from rc_deploy.files import write_bytes
from rc_deploy.outputs import require_outputs
from rc_deploy.report.documents import load
from rc_deploy.report.page import render
from rc_deploy.report.summary import Summary, summarise

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["DEFAULT_TITLE", "Summary", "build_report"]

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
    summary = summarise(documents)
    write_bytes(output, render(documents, summary, clean(title)).encode())
    return summary
