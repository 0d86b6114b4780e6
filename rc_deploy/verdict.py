"""What a validation says of each artefact, in records and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rc_deploy import machine
from rc_deploy.errors import ParityError

if TYPE_CHECKING:
    from rc_deploy.bisection import Bisection
    from rc_deploy.compare import Comparison
    from rc_deploy.flips import Flip
    from rc_deploy.loading import Loaded
    from rc_deploy.matrix import Row
    from rc_deploy.responses import Responses
    from rc_deploy.stress import Outcome
    from rc_deploy.tolerances import Tolerance

# docs/validation.md says what the document holds.
SCHEMA, SCHEMA_VERSION = "rc-deploy/validation", 2


@dataclass(frozen=True)
class Criterion:
    """One condition that an artefact must meet: `value` at most (or, for `at_least`, at least) `bound`.

    `where` is the PyTorch module that decides it, for what is held against its bound layer by layer.
    """

    name: str
    value: float
    bound: float
    at_least: bool = False
    where: str = ""

    @property
    def place(self) -> str:
        """Words for where it is not met: ", at MODULE", or nothing."""
        return f", at {self.where}" if self.where and not self.passed else ""

    @property
    def relation(self) -> str:
        """How value and bound must relate."""
        return ">=" if self.at_least else "<="

    @property
    def passed(self) -> bool:
        """Whether it is met; not for a value that is not a number."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclass(frozen=True)
class Validation:
    """What one artefact proved.

    Attributes:
        artefact: that was held against `reference`.
        reference: checkpoint or float32 ONNX file.
        data: source of the images.
        comparison: of their logits.
        tolerance: on it.
        criteria: that the artefact must meet.
        stress: what the inputs made to break things showed, a tuple for each program; empty where they were not run.
        layers: of the artefact against the reference's; None where that was not asked for.
        flips: images that changed class, to look at.
    """

    artefact: Loaded
    reference: Loaded
    data: str
    comparison: Comparison
    tolerance: Tolerance
    criteria: tuple[Criterion, ...]
    stress: tuple[tuple[str, Outcome], ...] = ()
    layers: Bisection | None = None
    flips: tuple[Flip, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every criterion is met."""
        return all(criterion.passed for criterion in self.criteria)

    @property
    def stale(self) -> bool:
        """Whether artefact and reference say that they come from two checkpoints."""
        sources = {self.artefact.checkpoint_sha256, self.reference.checkpoint_sha256}
        return "" not in sources and len(sources) > 1

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "artefact": _describe(self.artefact),
            "reference": _describe(self.reference),
            "data": self.data,
            "comparison": asdict(self.comparison),
            "tolerance": asdict(self.tolerance),
            "criteria": [{**asdict(item), "passed": item.passed} for item in self.criteria],
            "stress": [{"program": title, **asdict(outcome)} for title, outcome in self.stress],
            "layers": None if self.layers is None else self.layers.to_json(),
            "flips": [asdict(flip) for flip in self.flips],
            "stale": self.stale,
            "passed": self.passed,
        }


@dataclass(frozen=True)
class Selection:
    """Which images ran: of `data` all, or `limit` of them, the first ones or those that `seed` draws."""

    data: str
    limit: int | None
    seed: int | None


@dataclass(frozen=True)
class Chain:
    """Outcome of a run: what each artefact proved, the parity matrix of all that ran, and what the RC layers did."""

    selection: Selection
    validations: tuple[Validation, ...]
    matrix: tuple[Row, ...]
    responses: Responses | None = None

    @property
    def passed(self) -> bool:
        """Whether every artefact passed."""
        return all(validation.passed for validation in self.validations)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; docs/validation.md says what they mean."""
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "machine": machine.facts(),
            "selection": asdict(self.selection),
            "validations": [validation.to_json() for validation in self.validations],
            "matrix": [row.to_json() for row in self.matrix],
            "responses": None if self.responses is None else self.responses.to_json(),
            "passed": self.passed,
        }


def require_passed(chain: Chain) -> None:
    """Raise ParityError where an artefact does not meet its criteria, with all that it does not meet."""
    failed = [validation for validation in chain.validations if not validation.passed]
    if not failed:
        return
    first = failed[0]
    words = "; ".join(_failure(validation) for validation in failed)
    if first.stale:
        hint = "It was made from another checkpoint: export and build it again from this one."
    elif first.layers is None:
        hint = "Find the layer with --bisect; make sure that it was exported from this checkpoint."
    else:
        hint = "Make sure that it was exported from this checkpoint; then export and build it again."
    raise ParityError(words, hint)


def _failure(validation: Validation) -> str:
    missed = "; ".join(
        f"{item.name} is {item.value:.4g}, not {item.relation} {item.bound:.4g}{item.place}"
        for item in validation.criteria
        if not item.passed
    )
    layers = validation.layers
    layer = "" if layers is None or layers.first is None else f" It starts at {layers.layers[layers.first].name}."
    return f"{validation.artefact.path} does not compute what {validation.reference.path} computes: {missed}.{layer}"


def _describe(loaded: Loaded) -> dict[str, Any]:
    return {
        "path": str(loaded.path),
        "kind": loaded.kind.name.lower(),
        "sha256": loaded.sha256,
        "precision": loaded.precision.value,
        "runner": loaded.runner.name,
        "note": loaded.note,
    }
