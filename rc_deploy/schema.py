"""The `rc` operators: the one place where their names, inputs and attributes stand.

PyTorch modules, ONNX bodies, plugins and tests take them from here. Contract, for every implementation:

- GCLU(X) -> Y = ReLU(X) + X Phi(-|X|), the paper's Eq. 6; attribute `approximate` replaces Phi by Eq. 7
  ("sigmoid") or Eq. 8 ("tanh").
- ResponseCalibration(A, Mu, LogVar) -> Y = A + A Phi(-|Z|), Z = (A - Mu) / (exp(LogVar / 2) + epsilon),
  Eq. 2-5; A (N, C, *), Mu and LogVar (N, C); 0 < epsilon < infinity, here and below: kernels and modules refuse others.
- CalibratedResidual(A, Mu, LogVar, Shortcut) -> Y = ReLU(A + A Phi(-|Z|) + Shortcut), the end of a residual block;
  Shortcut of A's shape. A fusion pass introduces it.
- CalibratedTail(A, Shortcut, W1, B1, W2, B2): the same with (Mu, LogVar) = split(h W2^T + B2), h = g W1^T + B1, g the
  mean of A over its positions; W1 (H, C), B1 (H), W2 (2 C, H), B2 (2 C). A fusion pass introduces it.
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
CALIBRATED_RESIDUAL = Operator(
    "CalibratedResidual", ("A", "Mu", "LogVar", "Shortcut"), ("Y",), {"epsilon": DEFAULT_EPSILON}
)
CALIBRATED_TAIL = Operator(
    "CalibratedTail", ("A", "Shortcut", "W1", "B1", "W2", "B2"), ("Y",), {"epsilon": DEFAULT_EPSILON}
)
OPERATORS = {operator.name: operator for operator in (GCLU, RESPONSE_CALIBRATION, CALIBRATED_RESIDUAL, CALIBRATED_TAIL)}
