"""Trained weights that come with the package, by name: `rc-deploy export NAME MODEL.onnx` takes one for a checkpoint.

Each is NAME.safetensors in this folder, a checkpoint of under 3 MB, with its model card NAME.md beside it;
`benchmarks/keep_weights.py` makes both of a finished run. Nothing else is needed for it to be found.
"""

from __future__ import annotations

from pathlib import Path

from rc_deploy.errors import InputError

FOLDER = Path(__file__).parent
LARGEST = 3_000_000  # bytes of one file
# What is to come with the package, and the recipe that it is to be trained by.
EXPECTED = {"rescnet32-cifar10": "table1/rescnet32-cifar10"}


def available() -> list[str]:
    """Return the names of the weights that are here."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def find(checkpoint: Path) -> Path:
    """Return the checkpoint that a command is given: a file or, where there is none, the weights of that name.

    Raises:
        InputError: weights that are to come with the package, but do not yet.
    """
    name = str(checkpoint)
    if checkpoint.exists():
        return checkpoint
    if name in available():
        return FOLDER / f"{name}.safetensors"
    if name in EXPECTED:
        raise InputError(
            f"There is no file {name}, and trained weights of that name do not come with this rc-deploy yet.",
            f"Train them (200 epochs: it wants a GPU): rc-deploy train {EXPECTED[name]} --data DIR -o {name}.pt. "
            f"Then name {name}.pt in place of {name}.",
        )
    return checkpoint
