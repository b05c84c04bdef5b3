"""Arrays in JSON: exact to the last bit, and nothing to unpickle."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def encode(array: FloatArray) -> dict[str, Any]:
    """Return an array as a dict that JSON can hold."""
    data = np.ascontiguousarray(array, dtype="<f8").tobytes()
    return {"shape": list(array.shape), "float64": base64.b64encode(data).decode("ascii")}


def decode(state: Mapping[str, Any]) -> FloatArray:
    """Undo `encode`.

    Raises
    ------
    KeyError, ValueError
        If it is damaged.
    """
    data = np.frombuffer(base64.b64decode(state["float64"]), dtype="<f8")
    return data.reshape(state["shape"]).astype(float)
