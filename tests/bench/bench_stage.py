"""A stage for the measuring tests: a corpus of noise, runs of random weights, one-layer engines. None was trained."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from distill.corpus.schema import CorpusMetadata, SignClip
from distill.corpus.store import Corpus, CorpusWriter
from distill.models import build, resolve
from distill.recipe import Recipe
from runtime.contract import BLANK, METADATA_KEY, Contract, KeypointInput, Padding, RgbInput, body_and_hands_layout
from runtime.hashing import sha256_bytes, sha256_file

GLOSSES = ["COLD", "RAIN", "SUN", "WIND"]
LAYOUT = body_and_hands_layout()
JOINTS = ("left_wrist", "right_wrist", "nose")
KEYPOINTS = KeypointInput(LAYOUT, JOINTS, ("nose",) * 3, ("left_shoulder", "right_shoulder"))
RGB = RgbInput(8, 8)
TRKD = {"kd": {"weight": 1}, "crd": {"weight": 1}, "relation": {"weight": 1}}


def write_corpus(folder: Path, clips: int = 6, frames: bool = True, pose_ms: float | None = None) -> Corpus:
    """A corpus of noise with `clips` clips in test, two in train; lengths grow from 12 frames."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    writer = CorpusWriter(folder)
    for number in range(clips + 2):
        length = 12 + 3 * number
        clip = SignClip(f"clip{number}", list(rng.choice(GLOSSES, 3)), f"signer{number % 2}", 12.5)
        clip.keypoints = rng.random((length, len(LAYOUT), 3), dtype=np.float32)
        if frames:
            clip.frames = rng.integers(0, 255, (length, 8, 8, 3), dtype=np.uint8)
        writer.add(clip, "test" if number < clips else "train")
    writer.close(
        CorpusMetadata(
            name="noise",
            kind="synthetic",
            description="noise, for tests",
            glosses=GLOSSES,
            keypoint_layout=list(LAYOUT),
            keypoint_source="noise",
            pose_ms_per_frame=pose_ms,
        )
    )
    return Corpus(folder)


def write_run(
    folder: Path, corpus: str, teacher: str = "", distillation: dict | None = None, rgb: bool = False, seed: int = 0
) -> str:
    """A run folder as training leaves it, with random weights; returns the hash of its checkpoint."""
    model = (
        {"name": "lrinet", "preset": "small"}
        if rgb
        else {"name": "stgt", "preset": "small", "width": 8, "frame_width": 16, "temporal": 16}
    )
    recipe = Recipe.model_validate({
        "name": folder.name,
        "seed": seed,
        "model": resolve(model),
        "input": {"kind": "rgb", "size": 8} if rgb else {"kind": "keypoints", "joints": list(JOINTS)},
        "teacher": "/somewhere/else/teacher" if teacher else None,
        "distillation": distillation or {},
        "training": {"epochs": 2, "learning_rate": 0.001},
    })  # fmt: skip
    torch.manual_seed(seed)
    network = build(recipe.model, len(GLOSSES) + 1, RGB if rgb else KEYPOINTS)
    buffer = io.BytesIO()
    torch.save({"model": recipe.model, "classes": len(GLOSSES) + 1, "state_dict": network.state_dict()}, buffer)
    checkpoint = sha256_bytes(buffer.getvalue())
    contract = Contract(
        name=folder.name,
        input=RGB if rgb else KEYPOINTS,
        glosses=(BLANK, *GLOSSES),
        fps=12.5,
        padding=network.padding,
        sources={"checkpoint": checkpoint, "corpus": corpus, "recipe": "r"},
    )
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(recipe.text())
    (folder / "contract.json").write_text(contract.to_json())
    (folder / "weights.pt").write_bytes(buffer.getvalue())
    points = [
        {"epoch": i + 1, "seconds": 1.5, "losses": {"ctc": 3.0 - i}, "dev_wer": None if i == 0 else 90.0}
        for i in range(2)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))
    summary = {
        "name": folder.name,
        "status": "complete",
        "checkpoint": checkpoint,
        "corpus": corpus,
        "teacher": teacher or None,
        "seed": seed,
        "epochs": 2,
        "seconds": 3.0,
        "parameters": sum(parameter.numel() for parameter in network.inference().parameters()),
    }
    (folder / "run.json").write_text(json.dumps(summary))
    return checkpoint


def write_engine(
    folder: Path, checkpoint: str, precision: str = "fp32", target: str = "x86-cpu", rgb: bool = False, seed: int = 0,
    frames: int = 0,
) -> Path:  # fmt: skip
    """An engine folder whose network is a mean over 4 frames and one random linear layer; of one length: `frames`."""
    folder.mkdir(parents=True)
    file = folder / "engine.onnx"
    write_onnx(file, checkpoint, rgb, seed, frames)
    manifest = {
        "format": 1,
        "runtime": "onnxruntime",
        "precision": precision,
        "target": target,
        "chain": {"checkpoint": checkpoint, "onnx": "0" * 64, "engine": sha256_file(file)},
        "versions": {"onnxruntime": "1.0"},
        "warnings": ["made for a test"],
        "files": {"engine.onnx": sha256_file(file)},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def write_onnx(file: Path, checkpoint: str, rgb: bool = False, seed: int = 0, frames: int = 0) -> Path:
    """The ONNX file of such an engine, with its contract."""
    spec = RGB if rgb else KEYPOINTS
    width, shape = (3 * 8 * 8, ["T", 3, 8, 8]) if rgb else (5 * len(JOINTS), ["T", len(JOINTS), 5])
    classes = len(GLOSSES) + 1
    weights = np.random.default_rng(seed).normal(size=(width, classes)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["input", "quarters"], ["steps"]),
            helper.make_node("ReduceMean", ["steps"], ["means"], axes=[2], keepdims=0),
            helper.make_node("MatMul", ["means", "weights"], ["logits"]),
            helper.make_node("LogSoftmax", ["logits"], ["log_probs"], axis=-1),
        ],
        "stand-in",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["B", *shape])],
        [helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, ["B", "N", classes])],
        [
            helper.make_tensor("quarters", TensorProto.INT64, [4], [1, -1, 4, width]),
            helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.ravel()),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    sources = {"checkpoint": checkpoint} if checkpoint else {}
    padding = Padding(frames=frames)
    name = file.parent.name
    contract = Contract(name, spec, (BLANK, *GLOSSES), 12.5, chunk=frames, padding=padding, sources=sources)
    helper.set_model_props(model, {METADATA_KEY: contract.to_json()})
    onnx.save(model, str(file))
    return file
