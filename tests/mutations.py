"""Seeded mutations of valid files: bytes flipped, cut and swapped, and values that are well-formed and absurd."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

Bytes = Callable[[bytes, np.random.Generator], bytes]
Change = Callable[[Any, np.random.Generator], None]


@dataclass(frozen=True)
class Mutation:
    """One mutated file.

    Attributes:
        name: kind of file, kind of mutation and number, for messages.
        target: which file it takes the place of: "onnx", "typed", "engine" or "manifest".
        content: of the file.
    """

    name: str
    target: str
    content: bytes


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(content)
    for position in rng.integers(0, len(content), int(rng.choice([1, 3, 30]))):
        damaged[position] ^= int(rng.integers(1, 256))
    return bytes(damaged)


def flipped_head(content: bytes, rng: np.random.Generator) -> bytes:
    """Where lengths and kinds stand."""
    return flipped(content[:400], rng) + content[400:]


def truncated(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(1, len(content)))]


def cut_out(content: bytes, rng: np.random.Generator) -> bytes:
    start, end = sorted(int(value) for value in rng.integers(0, len(content), 2))
    return content[:start] + content[end + 1 :]


def repeated(content: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(0, len(content) - 1))
    return content[:start] + content[start : start + 300] * 5 + content[start:]


def junk(content: bytes, rng: np.random.Generator) -> bytes:
    return rng.bytes(int(rng.integers(1, 5000)))


def lengthened(content: bytes, rng: np.random.Generator) -> bytes:
    return content + rng.bytes(int(rng.integers(1, 100)))


def beginnings(content: bytes, rng: np.random.Generator) -> bytes:
    """Records of an engine's program text that begin and never end: a search for ends could take quadratic time."""
    return content[:100] + b"tensor={ " * 500_000


OF_BYTES: tuple[Bytes, ...] = (flipped, flipped_head, truncated, cut_out, repeated, junk, lengthened)
ABSURD_SIZES = (0, -1, 2**31, 2**40, 2**62, -(2**63))
OUTSIDE = ("/etc/passwd", "../../../../../etc/hostname", "weights.bin", "/dev/zero", "/proc/self/mem", "")


def input_size(model: Any, rng: np.random.Generator) -> None:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[int(rng.integers(0, len(dims)))].dim_value = int(rng.choice(ABSURD_SIZES))


def weight_size(model: Any, rng: np.random.Generator) -> None:
    """Announce more values than a weight holds."""
    tensor = model.graph.initializer[int(rng.integers(0, len(model.graph.initializer)))]
    tensor.dims[int(rng.integers(0, len(tensor.dims)))] = int(rng.choice(ABSURD_SIZES))


def weight_type(model: Any, rng: np.random.Generator) -> None:
    model.graph.initializer[int(rng.integers(0, len(model.graph.initializer)))].data_type = int(rng.integers(0, 99))


def value_type(model: Any, rng: np.random.Generator) -> None:
    values = (model.graph.input[0], model.graph.output[0], model.graph.value_info[int(rng.integers(0, 9))])
    values[int(rng.integers(0, 3))].type.tensor_type.elem_type = int(rng.integers(0, 99))


def outside(tensor: TensorProto, rng: np.random.Generator) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=str(rng.choice(OUTSIDE)))
    if rng.integers(0, 2):
        tensor.external_data.add(key="offset", value=str(int(rng.choice(ABSURD_SIZES))))
        tensor.external_data.add(key="length", value=str(int(rng.choice(ABSURD_SIZES))))


def weights_outside(model: Any, rng: np.random.Generator) -> None:
    outside(model.graph.initializer[int(rng.integers(0, len(model.graph.initializer)))], rng)


def constants_outside(model: Any, rng: np.random.Generator) -> None:
    """In a node's attribute: of the graph, or of a body."""
    constant = helper.make_node("Constant", [], ["planted"], value=helper.make_tensor("t", 1, [1], b"\0" * 4, raw=True))
    outside(constant.attribute[0].t, rng)
    place = model.graph if rng.integers(0, 2) else model.functions[0]
    place.node.insert(0, constant)


def endless_body(model: Any, rng: np.random.Generator) -> None:
    """A body that calls itself, or one that calls another that calls it."""
    first, second = model.functions[0], model.functions[int(rng.integers(0, len(model.functions)))]
    for caller, called in ((first, second), (second, first)):
        given = [caller.input[0]] * len(called.input)
        caller.node.insert(0, helper.make_node(called.name, given, [f"again_{called.name}"], domain="rc"))
        if not any(entry.domain == "rc" for entry in caller.opset_import):
            caller.opset_import.add(domain="rc", version=1)


def endless_loop(model: Any, rng: np.random.Generator) -> None:
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    count = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    carried = helper.make_tensor_value_info("v", TensorProto.FLOAT, None)
    result = helper.make_tensor_value_info("w", TensorProto.FLOAT, None)
    passed_on = helper.make_tensor_value_info("d", TensorProto.BOOL, [])
    steps = [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Neg", ["v"], ["w"])]
    body = helper.make_graph(steps, "body", [count, condition, carried], [passed_on, result])
    model.graph.initializer.extend(
        [
            helper.make_tensor("trips", TensorProto.INT64, [], [2**62]),
            helper.make_tensor("go", TensorProto.BOOL, [], [1]),
        ]
    )
    through_output(model, lambda old, new: [helper.make_node("Loop", ["trips", "go", old], [new], body=body)])


def vast_constant(model: Any, rng: np.random.Generator) -> None:
    """A tensor of terabytes, or of more values than can be counted, in a node of a few bytes."""
    size = int(rng.choice([2**36, 2**40, 2**62]))
    model.graph.initializer.append(helper.make_tensor("size", TensorProto.INT64, [2], [1, size]))
    through_output(
        model,
        lambda old, new: [
            helper.make_node("ConstantOfShape", ["size"], ["vast"]),
            helper.make_node("ReduceMax", ["vast"], ["most"], keepdims=0),
            helper.make_node("Add", [old, "most"], [new]),
        ],
    )


def through_output(model: Any, nodes: Callable[[str, str], list[Any]]) -> None:
    """Put nodes between what gives the logits and the logits."""
    name = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["before" if output == name else output for output in node.output]
    model.graph.node.extend(nodes("before", name))


def attribute(model: Any, rng: np.random.Generator) -> None:
    """An absurd number in a node's attribute."""
    found = [item for node in model.graph.node for item in node.attribute if item.type in (2, 7)]
    chosen = found[int(rng.integers(0, len(found)))]
    size = int(rng.choice(ABSURD_SIZES))
    if chosen.type == 2:
        chosen.i = size
    else:
        chosen.ints[0] = size


def wiring(model: Any, rng: np.random.Generator) -> None:
    """A node that reads its own output, another's, or nothing that there is."""
    nodes = model.graph.node
    node, other = (nodes[int(rng.integers(0, len(nodes)))] for _ in range(2))
    node.input[0] = str(rng.choice([node.output[0], other.output[0], "nowhere", ""]))


def versions(model: Any, rng: np.random.Generator) -> None:
    model.opset_import[0].version = int(rng.choice([0, 1, 9, 999, 2**31]))
    model.ir_version = int(rng.choice([0, 3, 99, 2**40]))


def metadata(model: Any, rng: np.random.Generator) -> None:
    entry = next(entry for entry in model.metadata_props if entry.key == "rc_deploy")
    document = json.loads(entry.value)
    spoil(document, rng)
    entry.value = json.dumps(document)


def many_nodes(model: Any, rng: np.random.Generator) -> None:
    through_output(model, lambda old, new: [helper.make_node("Neg", [old], [new])])
    model.graph.node.extend(helper.make_node("Relu", ["before"], [f"more_{index}"]) for index in range(20_000))


OF_GRAPHS: tuple[Change, ...] = (
    input_size, weight_size, weight_type, value_type, weights_outside, constants_outside, endless_body, endless_loop,
    vast_constant, attribute, wiring, versions, metadata, many_nodes,
)  # fmt: skip
ABSURD_VALUES: tuple[Any, ...] = (
    None, True, -1, 2**70, 1e308, float("nan"), float("inf"), "", "x" * 100_000, "\x00\x1b[31m\u202e\ud800",
    "../../etc/passwd", [], {}, [[[[[[[[[[[]]]]]]]]]]], ["9.9"] * 10_000, {"name": "/etc/passwd", "sha256": "0" * 64},
)  # fmt: skip


def spoil(document: Any, rng: np.random.Generator) -> None:
    """Put an absurd value somewhere into a JSON document, or take something out of it."""
    places = list(_places(document))
    holder, key = places[int(rng.integers(0, len(places)))]
    if rng.integers(0, 8) == 0:
        del holder[key]
    else:
        holder[key] = ABSURD_VALUES[int(rng.integers(0, len(ABSURD_VALUES)))]


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    keys: Any = document.keys() if isinstance(document, dict) else range(len(document))
    for key in keys:
        yield document, key
        if isinstance(document[key], dict | list):
            yield from _places(document[key])


def mutations(files: dict[str, bytes], count: int) -> list[Mutation]:
    """Return `count` mutations of valid files by target, the same for the same files; their kinds take turns."""
    made = zip(*(_endless(target, content, files) for target, content in files.items()), strict=True)
    flat = (mutation for group in made for mutation in group)
    return [mutation for mutation, _ in zip(flat, range(count), strict=False)]


def _endless(target: str, content: bytes, files: dict[str, bytes]) -> Iterator[Mutation]:
    rng = np.random.default_rng([len(files), *target.encode()])
    kinds = list(_kinds(target, files))
    number = 0
    while True:
        for kind, make in kinds:
            yield Mutation(f"{target}-{kind}-{number}", target, make(content, rng))
            number += 1


def _kinds(target: str, files: dict[str, bytes]) -> Iterator[tuple[str, Bytes]]:
    changes = {"manifest": [_document] * 8, "engine": [beginnings]}.get(
        target, [_graph(change) for change in OF_GRAPHS]
    )
    names = {"manifest": ["spoiled"] * 8, "engine": ["beginnings"]}.get(
        target, [change.__name__ for change in OF_GRAPHS]
    )
    yield from zip(names, changes, strict=True)
    yield from ((make.__name__, make) for make in OF_BYTES)
    for other in files:
        if other != target:
            yield f"swapped_for_{other}", _swap(files[other])


def _swap(other: bytes) -> Bytes:
    return lambda *_: other


def _document(content: bytes, rng: np.random.Generator) -> bytes:
    document = json.loads(content)
    spoil(document, rng)
    return json.dumps(document).encode("utf-8", "surrogatepass")


def _graph(change: Change) -> Bytes:
    def make(content: bytes, rng: np.random.Generator) -> bytes:
        model = onnx.load_model_from_string(content)
        change(model, rng)
        return bytes(model.SerializeToString())

    return make
