"""The paper's two ideas as PyTorch modules, functions and custom operators."""

from rc_deploy.nn.functional import gclu, response_calibration
from rc_deploy.nn.modules import GCLU, ResponseCalibration

__all__ = ["GCLU", "ResponseCalibration", "gclu", "response_calibration"]
