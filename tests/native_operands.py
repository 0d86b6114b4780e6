"""The operands of plugins/include/rc/types.h, as both C interfaces take them."""

from __future__ import annotations

import ctypes


class Calibration(ctypes.Structure):
    """struct rc_calibration."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("a", "mu", "log_var", "y")),
        *((name, ctypes.c_int64) for name in ("batch", "channels", "positions")),
        ("epsilon", ctypes.c_float),
        ("type", ctypes.c_int),
    )


class Tail(ctypes.Structure):
    """struct rc_tail."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("a", "shortcut", "w1", "b1", "w2", "b2", "y", "workspace")),
        *((name, ctypes.c_int64) for name in ("batch", "channels", "positions", "hidden")),
        ("epsilon", ctypes.c_float),
        ("type", ctypes.c_int),
    )
