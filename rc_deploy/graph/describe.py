"""What viewers such as Netron show of a model: who made it, what it is, what goes in and what comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rc_deploy.decode import clean

if TYPE_CHECKING:
    from onnx import ModelProto

    from rc_deploy.graph.model import Provenance
    from rc_deploy.specs import InputSpec

PRODUCER = "rc-deploy"
# Of the model format's own kind: rc-deploy tells versions of a network apart by their SHA-256.
MODEL_VERSION = 1
_MOST_CLASSES = 12


def describe(model: ModelProto, provenance: Provenance) -> None:
    """Write producer, versions and texts for people into a model, from what it says of itself; nothing else.

    The same model and provenance give the same bytes: no date, place or name of a machine is among them.

    Args:
        model: with one input and one output, changed in place.
        provenance: of it.
    """
    model.producer_name, model.producer_version = PRODUCER, clean(provenance.version)
    model.model_version = MODEL_VERSION
    model.graph.name = clean(provenance.architecture)
    model.doc_string = model.graph.doc_string = _network(provenance)
    for value in model.graph.input[:1]:
        value.doc_string = _input(provenance.input)
    for value in model.graph.output[:1]:
        value.doc_string = _output(provenance.input)


def _network(provenance: Provenance) -> str:
    arguments = ", ".join(f"{name}={value}" for name, value in sorted(provenance.arguments.items()))
    return clean(
        f"{provenance.architecture}({arguments}) in {provenance.precision}, a classifier of {_size(provenance.input)} "
        f"images into {len(provenance.input.classes):,} classes."
    )


def _size(spec: InputSpec) -> str:
    return "x".join(map(str, spec.shape))


def _input(spec: InputSpec) -> str:
    mean, std = (", ".join(f"{value:g}" for value in values[:_MOST_CLASSES]) for values in (spec.mean, spec.std))
    return (
        f"Images (N, {', '.join(map(str, spec.shape))}), float32: pixels scaled to [0, 1], less the channels' mean "
        f"({mean}), divided by their standard deviation ({std})."
    )


def _output(spec: InputSpec) -> str:
    names = ", ".join(spec.classes[:_MOST_CLASSES]) + (", …" if len(spec.classes) > _MOST_CLASSES else "")
    return clean(f"Logits (N, {len(spec.classes)}), float32, before any softmax; the classes are {names}.")
