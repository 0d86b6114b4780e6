"""The checkpoint: weights with everything needed to rebuild, feed and judge the network they belong to.

On disk it is either a `.pt` file, written by `torch.save` as {"rc_deploy": JSON text, "weights": {name: tensor}},
or a `.safetensors` file with the same JSON text in its header. Both are read without unpickling objects: a file
that would run code is refused.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rc_deploy import models
from rc_deploy.decode import FormError, decode, parse
from rc_deploy.errors import InputError, reason
from rc_deploy.files import atomic_write, json_text, require_file
from rc_deploy.optional import require
from rc_deploy.specs import InputSpec  # noqa: TC001 (`decode` reads the annotations of Description)

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Description:
    """A checkpoint's metadata as they are read: everything but the weights."""

    version: int
    architecture: str
    arguments: dict[str, Any]
    input: InputSpec
    recipe: dict[str, Any]
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A trained network.

    Attributes:
        architecture: name under which its network is registered; never code.
        arguments: keyword arguments of the network's factory.
        input: what the network takes and what its outputs mean.
        weights: the network's state dict, on the CPU.
        recipe: how it was trained.
        metrics: what it reached, e.g. {"test_accuracy": 97.5} in percent.
    """

    architecture: str
    arguments: dict[str, Any]
    input: InputSpec
    weights: dict[str, Tensor] = field(repr=False)
    recipe: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    def module(self, factory: str | None = None) -> nn.Module:
        """Return the network with these weights, in evaluation mode.

        Args:
            factory: "module:callable" to build it with instead of the registered one.

        Raises:
            UnsupportedError: the architecture is not known.
            InputError: its arguments or weights do not fit.
        """
        network = models.create(self.architecture, self.arguments, factory)
        try:
            network.load_state_dict(self.weights)
        except RuntimeError as error:
            detail = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            raise InputError(
                f"The weights do not fit architecture '{self.architecture}' with {self.arguments}: {detail}",
                "The checkpoint was written for another version of the network: train or convert it again.",
            ) from None
        return network.eval()

    def metadata(self) -> str:
        """Return everything but the weights as JSON text."""
        document = {
            "version": FORMAT_VERSION,
            "architecture": self.architecture,
            "arguments": self.arguments,
            "input": self.input.to_json(),
            "recipe": self.recipe,
            "metrics": self.metrics,
        }
        return json_text(document)


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write `checkpoint` to `path`, as safetensors if that is its suffix. Raises OutputError."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.weights.items()}
    with atomic_write(path) as temporary:
        if path.suffix == ".safetensors":
            save_file = require("safetensors.torch", "Writing .safetensors").save_file
            save_file(weights, temporary, metadata={"rc_deploy": checkpoint.metadata()})
        else:
            torch = require("torch", "Writing a checkpoint")
            with temporary.open("wb") as file:
                torch.save({"rc_deploy": checkpoint.metadata(), "weights": weights}, file)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        InputError: missing, empty, truncated, a pickle with code in it, or not an rc-deploy checkpoint.
        MissingDependencyError: PyTorch (or safetensors, for that format) is not installed.
    """
    require_file(path, "checkpoint")
    metadata, weights = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pt(path)
    return _from_parts(path, metadata, weights)


def _read_pt(path: Path) -> tuple[Any, Any]:
    torch = require("torch", "Reading a checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        detail = next((line for line in str(error).splitlines() if "GLOBAL" in line or "nsupported" in line), "")
        raise InputError(
            f"The checkpoint {path} is refused: it is damaged, or holds Python objects that would run code when "
            f"read. {detail}".rstrip(),
            "Get it again from its source; rc-deploy reads plain tensors only, as `rc-deploy train` writes them.",
        ) from None
    except Exception as error:  # noqa: BLE001 (damaged bytes make PyTorch's reader fail in any way there is)
        raise InputError(
            f"The checkpoint {path} is truncated or corrupt: {reason(error)}.",
            "Copy or train it again; compare its size and sha256sum with the original.",
        ) from None
    if not isinstance(content, dict) or "rc_deploy" not in content:
        raise InputError(
            f"{path} was written by PyTorch but is not an rc-deploy checkpoint: it names no architecture.",
            "Write it with rc_deploy.checkpoint.save(Checkpoint(architecture=..., ...), path).",
        )
    return content["rc_deploy"], content.get("weights")


def _read_safetensors(path: Path) -> tuple[Any, Any]:
    safetensors = require("safetensors", "Reading .safetensors")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = (file.metadata() or {}).get("rc_deploy")
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except safetensors.SafetensorError as error:
        raise InputError(
            f"The checkpoint {path} is truncated or corrupt: {error}.", "Copy or train it again."
        ) from None
    return metadata, weights


def _from_parts(path: Path, metadata: Any, weights: Any) -> Checkpoint:
    torch = require("torch", "Reading a checkpoint")
    try:
        document = parse(metadata)
        # Before the rest, which another version may spell differently.
        version = document.get("version") if isinstance(document, dict) else None
        if type(version) is int and version != FORMAT_VERSION:
            raise InputError(
                f"The checkpoint {path} has format version {version}; this rc-deploy reads {FORMAT_VERSION}.",
                "Install the rc-deploy version that wrote it, or train again.",
            )
        described = vars(decode(Description, document))
    except FormError as error:
        raise InputError(
            f"The checkpoint {path} has no valid description of its network: {error}.",
            "Train it again, or write it with rc_deploy.checkpoint.save.",
        ) from None
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in weights.items()
    ):
        raise InputError(
            f"The checkpoint {path} holds weights that are not tensors by name.",
            "Train it again, or write it with rc_deploy.checkpoint.save.",
        )
    return Checkpoint(weights=weights, **{key: value for key, value in described.items() if key != "version"})
