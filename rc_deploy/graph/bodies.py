"""FunctionProto bodies of the `rc` operators in standard ONNX operators.

A body lets any runtime execute a file that holds `rc` nodes. It is generic in the tensors' type and computes in
float32 whatever that type is. Standard ONNX has Erf but no Erfc, so Phi(-|x|) = (1 - |Erf(x / sqrt 2)|) / 2 here:
its absolute error is at most 2^-24 (half an ULP of 1, halved, plus Erf's own), not relative to the vanishing tail.
Clip keeps infinities out of products, where 0 * inf would give NaN in place of the limit 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx.parser

from rc_deploy.schema import CALIBRATED_RESIDUAL, CALIBRATED_TAIL, DOMAIN, GCLU, OPERATORS, RESPONSE_CALIBRATION

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

# Y = A + A Phi(-|Z|), Z = (A - Mu) / (exp(LogVar / 2) + epsilon) (Eq. 2-5), from `wide`, `wide_mu`, `wide_log_var`.
# What is the same for a whole channel is computed on (N, C); only then do `axes` spread it over the positions, so that
# A keeps its layout.
_CALIBRATED = """
  half = Constant <value_float: float = 0.5> ()
  half_log_var = Mul (wide_log_var, half)
  std = Exp (half_log_var)
  eps = Constant <value_float: float = @epsilon> ()
  scale = Add (std, eps)
  inv_sqrt2 = Constant <value_float: float = 0.7071067811865476> ()
  slope = Div (inv_sqrt2, scale)
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
  calibrated = Add (wide, calibration)
"""

# Y = ReLU(calibrated + Shortcut)
_RESIDUAL = """
  wide_shortcut = Cast <to: int = 1> (Shortcut)
  sum = Add (calibrated, wide_shortcut)
  result = Relu (sum)
"""

_GIVEN_STATISTICS = """
  wide_mu = Cast <to: int = 1> (Mu)
  wide_log_var = Cast <to: int = 1> (LogVar)
"""

# g = mean of A over positions; h = g W1^T + B1; (Mu, LogVar) = split(h W2^T + B2)
_PREDICTED_STATISTICS = """
  pooled = ReduceMean <keepdims: int = 0, noop_with_empty_axes: int = 1> (wide, axes)
  wide_w1 = Cast <to: int = 1> (W1)
  wide_b1 = Cast <to: int = 1> (B1)
  wide_w2 = Cast <to: int = 1> (W2)
  wide_b2 = Cast <to: int = 1> (B2)
  hidden = Gemm <transB: int = 1> (pooled, wide_w1, wide_b1)
  statistics = Gemm <transB: int = 1> (hidden, wide_w2, wide_b2)
  wide_mu, wide_log_var = Split <axis: int = 1, num_outputs: int = 2> (statistics)
"""

_CALIBRATION = """
<domain: "rc", opset_import: ["": {opset}]>
{name} <epsilon: float = 0.00001, plugin_namespace, plugin_version> ({inputs}) => (Y)
{{
  axes = Constant <value: tensor = int64[{positions}] {{{axes}}}> ()
  wide = Cast <to: int = 1> (A)
  {steps}
  Y = CastLike ({result}, A)
}}
"""

# What each calibrating operator computes, and the name of its result.
_CALIBRATION_STEPS = {
    RESPONSE_CALIBRATION.name: ((_GIVEN_STATISTICS, _CALIBRATED), "calibrated"),
    CALIBRATED_RESIDUAL.name: ((_GIVEN_STATISTICS, _CALIBRATED, _RESIDUAL), "result"),
    CALIBRATED_TAIL.name: ((_PREDICTED_STATISTICS, _CALIBRATED, _RESIDUAL), "result"),
}


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
        operator: its name, of `schema.OPERATORS`.
        variant: the approximation of a GCLU; "rank2", "rank3", ... of a calibrated tensor (N, C, *).
        opset: version of the standard operators it is written in; 18 or later.
    """
    if operator == GCLU.name:
        text = _GCLU.format(opset=opset, clamp=_CLAMP, tail=_GCLU_TAILS[variant])
    elif operator in _CALIBRATION_STEPS:
        axes = range(2, int(variant.removeprefix("rank")))
        steps, result = _CALIBRATION_STEPS[operator]
        text = _CALIBRATION.format(
            opset=opset,
            name=operator,
            inputs=", ".join(OPERATORS[operator].inputs),
            positions=len(axes),
            axes=", ".join(map(str, axes)),
            steps="".join(steps).format(clamp=_CLAMP),
            result=result,
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
