"""A page for people on what a graph computes in, node by node, and why: the manifest's decisions, told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from export.precision.plan import PRECISIONS
from runtime.device.folder import PAGE as FILE

__all__ = ["FILE", "page"]


def page(name: str, facts: Mapping[str, Any]) -> str:
    """Markdown from what a manifest has of a precision: `decisions`, `ranges`, `calibration`, `precision_report`."""
    decisions, ranges = facts["decisions"], facts.get("ranges", {})
    counts = Counter(item["precision"] for item in decisions)
    shares = ", ".join(f"{counts[kind]} in {kind}" for kind in reversed(PRECISIONS) if counts[kind])
    lines = [f"# What was decided for {name}", "", f"Of the {len(decisions)} nodes that a rule speaks of: {shares}."]
    lines += [*_calibrated(facts), *_near(facts), "", "| node | operator | computes in | why |", "|---|---|---|---|"]
    lines += [f"| {item['node']} | {item['op']} | {item['precision']} | {item['why']} |" for item in decisions]
    if ranges:
        lines += ["", "What is stored in eight bits, and its range:", "", "| tensor | from | to |", "|---|---|---|"]
        lines += [f"| {tensor} | {low:g} | {high:g} |" for tensor, (low, high) in ranges.items()]
    return "\n".join(lines) + "\n"


def _calibrated(facts: Mapping[str, Any]) -> list[str]:
    found = facts.get("calibration")
    if not found:
        return []
    frames = found["frames"]
    lengths = f"{frames['shortest']} to {frames['longest']} frames, {frames['median']:g} in the middle"
    signers = f"{len(found['signers'])} signers"
    return [f"Ranges were taken on {len(found['clips'])} clips of the {found['split']} split ({lengths}; {signers})."]


def _near(facts: Mapping[str, Any]) -> list[str]:
    found = facts.get("precision_report", {}).get("nearness")
    if not found:
        return []
    return [
        f"On {found['clips']} inputs of the network, {found['flips']} of {found['steps']} steps have another most "
        f"probable label than in FP32; log-probabilities differ by {found['largest']:.2g} at most, posteriors by "
        f"{found['divergence']:.2g} nats a step on average. Whether that matters is for the WER gate to say: see the "
        "manifest."
    ]
