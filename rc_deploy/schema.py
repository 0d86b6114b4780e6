"""The `rc` operators: the one place where their names, inputs and attributes stand.

PyTorch modules, ONNX bodies, plugins and tests take them from here. Contract, for every implementation:

- GCLU(X) -> Y = ReLU(X) + X Phi(-|X|), the paper's Eq. 6; attribute `approximate` replaces Phi by Eq. 7
  ("sigmoid") or Eq. 8 ("tanh").
- ResponseCalibration(A, Mu, LogVar) -> Y = A + A Phi(-|Z|), Z = (A - Mu) / (exp(LogVar / 2) + epsilon),
  Eq. 2-5; A (N, C, *), Mu and LogVar (N, C).
- Tensors are float, float16 or bfloat16, all of one type; arithmetic inside is float32 whatever that type is.
- NaN gives NaN. GCLU(+inf) = +inf, GCLU(-inf) = 0; the calibration of an infinite A is 0; std -> 0 and very
  large |Z| give weight 0 without NaN. Empty batches work.
"""

from __future__ import annotations

from dataclasses import dataclass, field

DOMAIN = "rc"
VERSION = 1
# TensorRT's parser takes a node with these attributes to the plugin of that name, where one is registered.
PLUGIN_ATTRIBUTES = {"plugin_namespace": "rc", "plugin_version": "1"}
APPROXIMATIONS = ("none", "sigmoid", "tanh")
DEFAULT_EPSILON = 1e-5


@dataclass(frozen=True)
class Operator:
    """Signature of one `rc` operator: every input and output is a tensor of the same type."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, str | float] = field(default_factory=dict)


GCLU = Operator("GCLU", ("X",), ("Y",), {"approximate": "none"})
RESPONSE_CALIBRATION = Operator("ResponseCalibration", ("A", "Mu", "LogVar"), ("Y",), {"epsilon": DEFAULT_EPSILON})
OPERATORS = {operator.name: operator for operator in (GCLU, RESPONSE_CALIBRATION)}
