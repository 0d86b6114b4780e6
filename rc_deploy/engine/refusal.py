"""What a library said when it gave up, and the error that it becomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rc_deploy.errors import BuildError

if TYPE_CHECKING:
    from pathlib import Path

Phase = Literal["parse", "build"]


@dataclass(frozen=True)
class ParserError:
    """One error of an ONNX parser, as `IParserError` has it."""

    node: str
    operator: str
    code: str
    description: str


@dataclass(frozen=True)
class Failure:
    """What a library said when it gave up.

    Attributes:
        title: of the library, e.g. "TensorRT-RTX".
        version: of it.
        phase: what it was doing.
        errors: its log's errors, in order.
        parser_errors: its parser's, in order.
        log: file that holds everything it said; None where there is none.
    """

    title: str
    version: str
    phase: Phase
    errors: tuple[str, ...] = ()
    parser_errors: tuple[ParserError, ...] = ()
    log: Path | None = None


def translate(failure: Failure) -> BuildError:
    """Return the error that says in words what a library's failure means."""
    parser = "; ".join(
        f"operator {error.operator} of node '{error.node}': {error.code}, {error.description}"
        for error in failure.parser_errors
    )
    said = (parser or "; ".join(failure.errors) or "it gave no reason").rstrip(".")
    log = f" Its whole log is in {failure.log}." if failure.log else ""
    if failure.phase == "parse":
        return BuildError(
            f"{failure.title}'s parser refuses the graph: {said}.{log}",
            "`rc-deploy inspect MODEL.onnx` lists the model's operators; the network must do without that one.",
        )
    return BuildError(f"{failure.title} built nothing: {said}.{log}", "See `rc-deploy doctor`.")
