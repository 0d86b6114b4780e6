"""FunctionProto bodies of the `rc` operators in standard ONNX operators.

A body lets any runtime execute a file that holds `rc` nodes. It is generic in the tensors' type and computes in
float32 whatever that type is. Standard ONNX has Erf but no Erfc, so Phi(-|x|) = (1 - |Erf(x / sqrt 2)|) / 2 here:
its absolute error is at most 2^-24 (half an ULP of 1, halved, plus Erf's own), not relative to the vanishing tail.
Clip keeps infinities out of products, where 0 * inf would give NaN in place of the limit 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx.parser

from rc_deploy.schema import DOMAIN, GCLU, OPERATORS, RESPONSE_CALIBRATION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import FunctionProto, ModelProto, NodeProto

_CLAMP = """
  lowest = Constant <value_float: float = -3.4028234663852886e38> ()
  largest = Constant <value_float: float = 3.4028234663852886e38> ()
"""

# Each defines `tail`, the form of Phi(-|x|) that `approximate` names, from `finite`.
_GCLU_TAILS = {
    "none": """
  inv_sqrt2 = Constant <value_float: float = 0.7071067811865476> ()
  scaled = Mul (finite, inv_sqrt2)
  erf = Erf (scaled)
  abs_erf = Abs (erf)
  one = Constant <value_float: float = 1.0> ()
  twice_tail = Sub (one, abs_erf)
  half = Constant <value_float: float = 0.5> ()
  tail = Mul (twice_tail, half)
""",
    # Phi(-|x|) ~ sigmoid(-1.702 |x|) (Eq. 7)
    "sigmoid": """
  magnitude = Abs (finite)
  scale = Constant <value_float: float = -1.702> ()
  argument = Mul (magnitude, scale)
  tail = Sigmoid (argument)
""",
    # Phi(-|x|) ~ (1 - tanh u) / 2 = sigmoid(-2 u), u = sqrt(2 / pi) (|x| + 0.044715 |x|^3) (Eq. 8)
    "tanh": """
  magnitude = Abs (finite)
  square = Mul (finite, finite)
  cubic = Constant <value_float: float = 0.044715> ()
  scaled_square = Mul (square, cubic)
  one = Constant <value_float: float = 1.0> ()
  factor = Add (scaled_square, one)
  u = Mul (magnitude, factor)
  scale = Constant <value_float: float = -1.5957691216057308> ()
  argument = Mul (u, scale)
  tail = Sigmoid (argument)
""",
}

# Y = ReLU(X) + X Phi(-|X|) (Eq. 6)
_GCLU = """
<domain: "rc", opset_import: ["": {opset}]>
GCLU <approximate, plugin_namespace, plugin_version> (X) => (Y)
{{
  wide = Cast <to: int = 1> (X)
  {clamp}
  finite = Clip (wide, lowest, largest)
  {tail}
  calibration = Mul (finite, tail)
  positive = Relu (wide)
  result = Add (positive, calibration)
  Y = CastLike (result, X)
}}
"""

# Y = A + A Phi(-|Z|), Z = (A - Mu) / (exp(LogVar / 2) + epsilon) (Eq. 2-5). What is the same for a whole channel is
# computed on (N, C); only then do `axes` spread it over the positions, so that A keeps its layout.
_RESPONSE_CALIBRATION = """
<domain: "rc", opset_import: ["": {opset}]>
ResponseCalibration <epsilon: float = 0.00001, plugin_namespace, plugin_version> (A, Mu, LogVar) => (Y)
{{
  wide = Cast <to: int = 1> (A)
  wide_mu = Cast <to: int = 1> (Mu)
  wide_log_var = Cast <to: int = 1> (LogVar)
  half = Constant <value_float: float = 0.5> ()
  half_log_var = Mul (wide_log_var, half)
  std = Exp (half_log_var)
  eps = Constant <value_float: float = @epsilon> ()
  scale = Add (std, eps)
  inv_sqrt2 = Constant <value_float: float = 0.7071067811865476> ()
  slope = Div (inv_sqrt2, scale)
  axes = Constant <value: tensor = int64[{positions}] {{{axes}}}> ()
  mu = Unsqueeze (wide_mu, axes)
  slopes = Unsqueeze (slope, axes)
  {clamp}
  finite = Clip (wide, lowest, largest)
  deviation = Sub (finite, mu)
  scaled = Mul (deviation, slopes)
  erf = Erf (scaled)
  abs_erf = Abs (erf)
  one = Constant <value_float: float = 1.0> ()
  twice_weight = Sub (one, abs_erf)
  half_response = Mul (finite, half)
  calibration = Mul (half_response, twice_weight)
  result = Add (wide, calibration)
  Y = CastLike (result, A)
}}
"""


def attach_bodies(model: ModelProto) -> None:
    """Add to `model`, in place, a body for every `rc` operator it holds, at the model's own opset.

    A body is written for one variant of its operator: a GCLU's approximation, the rank of a calibrated tensor.
    Where a model mixes variants of one operator, nodes and bodies are told apart by their `overload`.

    Raises:
        ValueError: an unknown operator of domain `rc`, or a calibrated tensor of unknown rank.
    """
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    ranks = _ranks(model)
    nodes: dict[str, dict[str, list[NodeProto]]] = {}
    for node in rc_nodes(model):
        nodes.setdefault(node.op_type, {}).setdefault(_variant(node, ranks), []).append(node)
    del model.functions[:]
    for operator, variants in sorted(nodes.items()):
        for variant, users in sorted(variants.items()):
            function = body(operator, variant, opset)
            if len(variants) > 1:
                function.overload = variant
                for node in users:
                    node.overload = variant
            model.functions.append(function)


def body(operator: str, variant: str, opset: int) -> FunctionProto:
    """Return the body of one operator.

    Args:
        operator: "GCLU" or "ResponseCalibration".
        variant: the approximation of a GCLU; "rank2", "rank3", ... of a calibrated tensor (N, C, *).
        opset: version of the standard operators it is written in; 18 or later.
    """
    if operator == GCLU.name:
        text = _GCLU.format(opset=opset, clamp=_CLAMP, tail=_GCLU_TAILS[variant])
    elif operator == RESPONSE_CALIBRATION.name:
        axes = range(2, int(variant.removeprefix("rank")))
        text = _RESPONSE_CALIBRATION.format(
            opset=opset, clamp=_CLAMP, positions=len(axes), axes=", ".join(map(str, axes))
        )
    else:
        raise ValueError(f"there is no operator {DOMAIN}.{operator}; known: {', '.join(OPERATORS)}")
    return onnx.parser.parse_function(text)


def rc_nodes(model: ModelProto) -> Iterator[NodeProto]:
    """Yield the nodes of domain `rc` in the model's main graph, in order."""
    return (node for node in model.graph.node if node.domain == DOMAIN)


def _variant(node: NodeProto, ranks: dict[str, int]) -> str:
    if node.op_type == GCLU.name:
        stated = next((attribute.s.decode() for attribute in node.attribute if attribute.name == "approximate"), None)
        return stated or str(GCLU.attributes["approximate"])
    if node.input[0] not in ranks:
        raise ValueError(f"the rank of {node.input[0]}, input of {node.name}, is not known")
    return f"rank{ranks[node.input[0]]}"


def _ranks(model: ModelProto) -> dict[str, int]:
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in values
        if value.type.tensor_type.HasField("shape")
    }
