"""What is inside a plan: layers, their types, what fell back."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

from runtime.trt.module import Line


def layers_from_log(lines: Sequence[Line]) -> List[Dict[str, Any]]:
    return []


def layers_from_plan(trt: Any, plan: bytes) -> List[Dict[str, Any]]:
    return []
