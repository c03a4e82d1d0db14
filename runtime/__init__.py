"""SHIP: what runs beside the model: contract, preprocessing, decoding, scoring, engines; libsignedge and its binding.

Python >= 3.8, numpy only. `from runtime import Model, Stream` loads the library at the first use, not before.
"""

from __future__ import annotations

import os
from typing import Any

# ONNX Runtime from 1.29 on tells its makers, over the network, how it is used, and keeps a number of the device. Here
# it does not: it looks at this once, when it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_BINDING = ("Model", "Stream", "Decoder", "Decoding", "Gloss", "LanguageModel", "step_together")


def __getattr__(name: str) -> Any:
    if name in _BINDING:
        from runtime import binding

        return getattr(binding, name)
    raise AttributeError(f"module 'runtime' has no attribute '{name}'")
