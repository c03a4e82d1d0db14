"""Damaged and hostile engine folders: each is refused in one line that names the folder and the fault, none crashes."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from test_engine import CONTRACT, write_engine
from test_native_backends import BACKEND_FAILED, refusal
from test_native_contract import BAD

from runtime import abi
from runtime.contract import METADATA_KEY
from runtime.engine import ENGINE_FILE, MANIFEST
from runtime.hashing import sha256_file

pytestmark = pytest.mark.usefixtures("library_in_use")

Ask = Callable[[Sequence[str]], list[str]]
HASH = "0" * 64
NOT_ONNX = "not an ONNX file|no contract|not the file"


class Mutation(NamedTuple):
    """What is done to a good engine folder, and the words that the refusal must hold (any of those between bars)."""

    name: str
    damage: Callable[[Path], object]
    words: str


def edit(**changes: Any) -> Callable[[Path], object]:
    """Replace fields of the manifest."""

    def damage(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps({**manifest, **changes}))

    return damage


def also(name: str, value: Any = HASH) -> Callable[[Path], object]:
    """Name one more file in the manifest."""

    def damage(folder: Path) -> None:
        edit(files={ENGINE_FILE: sha256_file(folder / ENGINE_FILE), name: value})(folder)

    return damage


def manifest(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """Change the bytes of the manifest."""
    return lambda folder: (folder / MANIFEST).write_bytes(change((folder / MANIFEST).read_bytes()))


def model(change: Callable[[bytes], bytes], hashed: bool = True) -> Callable[[Path], object]:
    """Change the bytes of the model, and (`hashed`) its hash in the manifest."""

    def damage(folder: Path) -> None:
        (folder / ENGINE_FILE).write_bytes(change((folder / ENGINE_FILE).read_bytes()))
        if hashed:
            edit(files={ENGINE_FILE: sha256_file(folder / ENGINE_FILE)})(folder)

    return damage


def proto(change: Callable[[onnx.ModelProto], object]) -> Callable[[Path], object]:
    """Change the model as ONNX, and its hash."""

    def changed(content: bytes) -> bytes:
        parsed = onnx.load_from_string(content)
        change(parsed)
        return parsed.SerializeToString()

    return model(changed)


def contract(text: bytes) -> Callable[[Path], object]:
    """Put another text in the place of the contract, which may be no text at all."""

    def metadata(content: bytes) -> bytes:
        bare = onnx.load_from_string(content)
        del bare.metadata_props[:]
        return bare.SerializeToString() + entry(METADATA_KEY.encode(), text)

    return model(metadata)


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def entry(key: bytes, value: bytes) -> bytes:
    """One entry of metadata_props, bytes and all."""
    inner = b"\x0a" + varint(len(key)) + key + b"\x12" + varint(len(value)) + value
    return b"\x72" + varint(len(inner)) + inner


def instead(make: Callable[[Path], object], name: str = ENGINE_FILE) -> Callable[[Path], object]:
    """Put something else in the place of a file, which stays beside the folder."""

    def damage(folder: Path) -> None:
        (folder / name).rename(folder.with_suffix(".moved"))
        make(folder / name)

    return damage


def linked(folder: Path) -> None:
    """A file in a folder below that is a link to a folder elsewhere."""
    elsewhere = folder.with_suffix(".elsewhere")
    elsewhere.mkdir()
    (elsewhere / "notes.txt").write_text("notes")
    (folder / "below").symlink_to(elsewhere)
    also("below/notes.txt", sha256_file(elsewhere / "notes.txt"))(folder)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(path.parent):  # its path must be short
        server.bind(path.name)


def sparse(gibibytes: int) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        path.touch()
        os.truncate(path, gibibytes << 30)

    return make


def flipped(at: float) -> Callable[[bytes], bytes]:
    """One bit of the content turned over, `at` of the way through it."""

    def change(content: bytes) -> bytes:
        place = int(at * len(content))
        return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]

    return change


def cut(at: float) -> Callable[[bytes], bytes]:
    return lambda content: content[: int(at * len(content))]


def noise(seed: int) -> Callable[[bytes], bytes]:
    return lambda content: np.random.default_rng(seed).bytes(len(content))


def of_folders() -> Iterator[Mutation]:
    """Files that are missing, elsewhere, or not files."""
    yield Mutation("no model", lambda folder: (folder / ENGINE_FILE).unlink(), "missing file")
    yield Mutation("no manifest", lambda folder: (folder / MANIFEST).unlink(), "missing file")
    for name in (ENGINE_FILE, MANIFEST):
        yield Mutation(f"{name} is a folder", instead(Path.mkdir, name), "is not a file")
        yield Mutation(f"{name} is a pipe", instead(os.mkfifo, name), "is not a file")
        yield Mutation(f"{name} is a socket", instead(listening, name), "cannot open")
        yield Mutation(
            f"{name} is a link", instead(lambda path: path.symlink_to(path.parent.with_suffix(".moved")), name),
            "symbolic link",
        )  # fmt: skip
        yield Mutation(f"{name} links to itself", instead(lambda path: path.symlink_to(path), name), "symbolic link")
        yield Mutation(f"{name} links to a device", instead(lambda path: path.symlink_to("/dev/zero"), name), "link")
        yield Mutation(f"{name} is huge", instead(sparse(5), name), "larger than 4 GiB")
        yield Mutation(f"{name} is empty", instead(Path.touch, name), "not JSON|hash differs")
    yield Mutation("a folder below is a link", linked, "symbolic link|missing file")
    yield Mutation("another file is missing", also("notes.txt"), "missing file")
    yield Mutation("another file is the folder below", also("below/notes.txt"), "missing file")


def of_names() -> Iterator[Mutation]:
    """Names in the manifest that leave the folder, or try to."""
    for name in (
        "/etc/passwd", "../engine.onnx", "..", ".", "", "/", "//", "./engine.onnx", "below/../engine.onnx",
        "below/..", "below/", "below//engine.onnx", "../" * 40 + "etc/passwd", "engine.onnx/", "engine.onnx\0.txt",
    ):  # fmt: skip
        yield Mutation(f"names {name!r}", also(name), "outside its folder")
    for name in ("engine.onnx/engine.onnx", "a\nb", "x" * 5000, "/".join("x" * 3000), "\U0001f91f"):
        yield Mutation(f"names {name[:20]!r}", also(name), "missing file|cannot open")


def of_manifests() -> Iterator[Mutation]:
    """Manifests that are damaged, of another kind, or do not fit."""
    for at in np.arange(0, 1, 0.05):
        yield Mutation(f"manifest cut at {at:.2f}", manifest(cut(at)), "is not JSON")
    for value in (HASH, "", "0" * 63, "0" * 65, "G" * 64, HASH.replace("0", "A"), 5, None, ["0"], {}):
        yield Mutation(f"hash {value!r}", edit(files={ENGINE_FILE: value}), "no SHA-256|hash differs")
    for value in ({}, None, [ENGINE_FILE], "engine.onnx", 3, {"other.onnx": HASH}):
        yield Mutation(f"files {value!r}", edit(files=value), "names no files|no hash of engine.onnx")
    for value in (0, 2, -1, 1.0, "1", None, True, [1], 2**64):
        yield Mutation(f"format {value!r}", edit(format=value), "has format")
    for value in ("torch", "", None, 3, "onnxruntime ", "ONNXRuntime", ["onnxruntime"], "a\nb", "x" * 10_000):
        yield Mutation(f"runtime {str(value)[:20]!r}", edit(runtime=value), "names the runtime")
    yield Mutation("another runtime's files", edit(runtime="tensorrt"), "no hash of engine.plan")
    yield Mutation(
        "no contract beside a plan", edit(runtime="tensorrt", files={"engine.plan": HASH}), "no hash of contract.json"
    )
    yield Mutation(
        "too many files", edit(files={ENGINE_FILE: HASH, **{str(i): HASH for i in range(2000)}}), "more than 1024 files"
    )
    for name, text in {
        "a list": b"[]", "null": b"null", "a text": b'"files"', "empty object": b"{}", "binary": bytes(range(256)),
        "deep": b"[" * 200_000, "many values": b"[" + b"0," * (2**20) + b"0]", "long": b" " * (17 << 20),
        "zero bytes": bytes(1000),
    }.items():  # fmt: skip
        yield Mutation(f"manifest is {name}", manifest(lambda _, text=text: text), "manifest.json")
    for name, change in {
        "broken UTF-8": lambda content: content.replace(b"x86-cpu", b"x86-\xff"),
        "byte order mark": lambda content: b"\xef\xbb\xbf" + content,
        "named twice": lambda content: content[:-1] + b', "format": 1}',
        "not a number": lambda content: content.replace(b"1", b"NaN", 1),
        "followed": lambda content: content + b"{}",
        "UTF-16": lambda content: content.decode().encode("utf-16"),
    }.items():
        yield Mutation(f"manifest with {name}", manifest(change), "is not JSON")


def of_models() -> Iterator[Mutation]:
    """Model files that are damaged, with and without a hash that fits."""
    for at in np.arange(0, 1, 0.05):
        yield Mutation(f"model cut at {at:.2f}", model(cut(at), hashed=False), "hash differs")
        yield Mutation(f"model cut at {at:.2f} and hashed", model(cut(at)), NOT_ONNX)
        yield Mutation(f"bit at {at:.2f}", model(flipped(at), hashed=False), "hash differs")
    yield Mutation("model longer", model(lambda content: content + b"\0", hashed=False), "hash differs")
    for seed in range(20):
        yield Mutation(f"noise {seed}", model(noise(seed)), NOT_ONNX)
    for name, end in {
        "field 0": b"\x00\x00", "a group": b"\x73", "an unknown type": b"\x77", "a long number": b"\x08" + b"\xff" * 11,
        "a long tag": b"\xff" * 5 + b"\x01", "a cut tag": b"\xf2", "a cut number": b"\x08\x80",
        "a huge field": b"\x72" + varint(2**63), "the largest field": b"\x72" + varint(2**64 - 1),
        "a huge entry": b"\x72\x08\x0a" + varint(2**40) + b"x", "a cut field": b"\x72\x05ab",
        "a cut fixed": b"\x09\x00\x00", "a cut fixed of four": b"\x0d\x00",
    }.items():  # fmt: skip
        yield Mutation(f"model with {name}", model(lambda content, end=end: content + end), "not an ONNX file")
    for name, content in {"nothing": b"", "a text": b"This is no model.", "zeros": bytes(1000)}.items():
        yield Mutation(f"model is {name}", model(lambda _, content=content: content), NOT_ONNX)


def outside(tensor: onnx.TensorProto, location: str) -> None:
    """Let the data of a tensor be elsewhere."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)


def of_weights() -> Iterator[Mutation]:
    """Models whose weights are elsewhere: no hash covers those, and a location may be any file or address."""
    for location in ("weights.bin", "../../../../../../../../etc/passwd", "/dev/zero", "*/_ORT_MEM_ADDR_/*"):
        yield Mutation(
            f"weights in {location}",
            proto(lambda parsed, location=location: outside(parsed.graph.initializer[3], location)),
            "external data",
        )
    tensor = onnx.TensorProto(dims=[1], data_type=TensorProto.FLOAT, name="t")
    outside(tensor, "weights.bin")
    sparse = onnx.SparseTensorProto(values=tensor, dims=[1])
    graph = onnx.GraphProto(initializer=[tensor])
    for attribute in (
        onnx.AttributeProto(t=tensor), onnx.AttributeProto(tensors=[tensor]), onnx.AttributeProto(g=graph),
        onnx.AttributeProto(graphs=[graph]), onnx.AttributeProto(sparse_tensor=sparse),
        onnx.AttributeProto(sparse_tensors=[sparse]),
    ):  # fmt: skip
        kind = attribute.ListFields()[0][0].name
        node = onnx.NodeProto(op_type="Constant", attribute=[attribute])
        nested = onnx.AttributeProto(g=onnx.GraphProto(node=[node]))
        for name, change in {
            "node": lambda parsed, node=node: parsed.graph.node.append(node),
            "graph of a node": lambda parsed, nested=nested: parsed.graph.node[0].attribute.append(nested),
            "function": lambda parsed, node=node: parsed.functions.add(name="f").node.append(node),
        }.items():
            yield Mutation(f"weights outside in the {kind} of a {name}", proto(change), "external data")
    yield Mutation(
        "sparse weights outside", proto(lambda parsed: parsed.graph.sparse_initializer.append(sparse)), "external data"
    )
    deep = onnx.GraphProto()
    for _ in range(30):
        deep = onnx.GraphProto(node=[onnx.NodeProto(attribute=[onnx.AttributeProto(g=deep)])])
    yield Mutation("graphs in graphs", proto(lambda parsed: parsed.graph.node.extend(deep.node)), "not an ONNX file")


def of_contracts() -> Iterator[Mutation]:
    """Contracts in the metadata that no model can keep."""
    yield Mutation("no metadata", proto(lambda parsed: parsed.ClearField("metadata_props")), "no contract")
    yield Mutation(
        "another key",
        model(lambda content: content.replace(METADATA_KEY.encode(), b"signedge.contrast")),
        "no contract",
    )
    whole = CONTRACT.to_json().encode()
    yield Mutation("a second contract", model(lambda content: content + entry(METADATA_KEY.encode(), whole)), "twice")
    yield Mutation("broken UTF-8", contract(whole.replace(b"RED", b"R\xffD")), "not UTF-8")
    yield Mutation("a cut code point", contract(whole[:-1] + b"\xe2\x82"), "not UTF-8")
    for at in np.arange(0, 1, 0.1):
        yield Mutation(f"contract cut at {at:.1f}", contract(whole[: int(at * len(whole))]), "not JSON")
    for name, text in BAD.items():
        if len(text) < 1 << 20:
            yield Mutation(f"contract: {name}", contract(text.encode("utf-8", "surrogatepass")), "contract")


def of_networks() -> Iterator[Mutation]:
    """Graphs that are sound but not what their contract says, or not sound: the backend's layer finds them."""

    def shape(which: str, *sides: int | str) -> Callable[[Path], object]:
        def change(parsed: onnx.ModelProto) -> None:
            port = getattr(parsed.graph, which)[0]
            port.CopyFrom(helper.make_tensor_value_info(port.name, TensorProto.FLOAT, sides))

        return proto(change)

    def renamed(which: str) -> Callable[[Path], object]:
        def change(parsed: onnx.ModelProto) -> None:
            before = getattr(parsed.graph, which)[0].name
            getattr(parsed.graph, which)[0].name = "x"
            for node in parsed.graph.node:
                node.input[:] = ["x" if name == before else name for name in node.input]
                node.output[:] = ["x" if name == before else name for name in node.output]

        return proto(change)

    def doubled(which: str) -> Callable[[Path], object]:
        def change(parsed: onnx.ModelProto) -> None:
            port = getattr(parsed.graph, which).add()
            port.CopyFrom(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
            if which == "output":
                parsed.graph.node.append(helper.make_node("Size", ["input"], ["size"]))
                parsed.graph.node.append(helper.make_node("Cast", ["size"], ["more"], to=TensorProto.FLOAT))
                port.CopyFrom(helper.make_tensor_value_info("more", TensorProto.FLOAT, []))

        return proto(change)

    def half_precision(parsed: onnx.ModelProto) -> None:
        parsed.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
        parsed.graph.node[0].input[0] = "wide"
        parsed.graph.node.insert(0, helper.make_node("Cast", ["input"], ["wide"], to=TensorProto.FLOAT))

    def whole_numbers(parsed: onnx.ModelProto) -> None:
        parsed.graph.node[-1].output[0] = "real"
        parsed.graph.node.append(helper.make_node("Cast", ["real"], ["log_probs"], to=TensorProto.INT64))
        parsed.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64

    text = CONTRACT.to_json()
    yield Mutation("input of half precision", proto(half_precision), "float32")
    yield Mutation("output of whole numbers", proto(whole_numbers), "float32")
    yield Mutation("input of another name", renamed("input"), "input")
    yield Mutation("output of another name", renamed("output"), "log_probs")
    yield Mutation("two inputs", doubled("input"), "input")
    yield Mutation("two outputs", doubled("output"), "output")
    yield Mutation("input of other sides", shape("input", "batch", "frames", 3, 8, 8), "input")
    yield Mutation("input of one channel", shape("input", "batch", "frames", 1, 4, 4), "input")
    yield Mutation("input without a batch", shape("input", "frames", 3, 4, 4), "rank")
    yield Mutation("input of six sides", shape("input", "batch", "frames", 3, 4, 4, 1), "input")
    yield Mutation("fewer classes", contract(text.replace(',"BLUE"', "").encode()), "classes|log_probs")
    yield Mutation("more classes", contract(text.replace('"BLUE"', '"BLUE","GREY"').encode()), "classes|log_probs")
    yield Mutation("other frames", contract(text.replace('"height":4', '"height":5').encode()), "input")
    yield Mutation("an unknown operator", proto(lambda parsed: setattr(parsed.graph.node[0], "op_type", "Guess")), "")
    yield Mutation("a loop of nodes", proto(lambda parsed: parsed.graph.node[0].input.__setitem__(0, "logits")), "")
    yield Mutation("a later version", proto(lambda parsed: setattr(parsed.opset_import[0], "version", 9999)), "")
    yield Mutation("no graph", proto(lambda parsed: parsed.ClearField("graph")), "")
    yield Mutation("no nodes", proto(lambda parsed: parsed.graph.ClearField("node")), "")


FILES = [*of_folders(), *of_names(), *of_manifests(), *of_models(), *of_weights(), *of_contracts()]
NETWORKS = list(of_networks())


def make(mutations: Sequence[Mutation], root: Path, good: Path) -> Iterator[tuple[Mutation, Path]]:
    """A damaged copy of the good engine for each mutation."""
    for number, mutation in enumerate(mutations):
        folder = root / f"mutation-{number}"
        folder.mkdir()
        for file in good.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        mutation.damage(folder)
        yield mutation, folder


def check(mutation: Mutation, folder: Path, message: str) -> None:
    assert len(message.splitlines()) == 1 and len(message.encode()) < 1024, (mutation.name, message)
    assert folder.name in message, (mutation.name, message)
    assert any(words in message for words in mutation.words.split("|")), (mutation.name, message)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_engine(tmp_path_factory.mktemp("good") / "engine")


def test_good_engines_open(read_natively: Ask, good: Path, tmp_path: Path) -> None:
    """A folder, a bare model, a folder with more files, one of a runtime whose model carries no metadata."""
    _, more = next(make([Mutation("", lambda folder: None, "")], tmp_path, good))
    (more / "notes").mkdir()
    (more / "notes/build.log").write_text("built")
    also("notes/build.log", sha256_file(more / "notes/build.log"))(more)
    plan = tmp_path / "plan"
    plan.mkdir()
    (plan / "engine.plan").write_bytes(bytes(1000))
    (plan / "contract.json").write_text(CONTRACT.to_json())
    files = {name: sha256_file(plan / name) for name in ("engine.plan", "contract.json")}
    (plan / MANIFEST).write_text(json.dumps({"format": 1, "runtime": "tensorrt", "files": files}))
    answers = read_natively([f"engine {path}" for path in (good, good / ENGINE_FILE, more, plan)])
    assert answers == ["0 onnxruntime"] * 3 + ["0 tensorrt"]


def test_damaged_files_are_refused_before_any_backend(read_natively: Ask, good: Path, tmp_path: Path) -> None:
    """Under the sanitizers."""
    made = list(make(FILES, tmp_path, good))
    assert len({mutation.name for mutation in FILES}) == len(FILES) > 300
    for (mutation, folder), answer in zip(made, read_natively([f"engine {path}" for _, path in made]), strict=True):
        status, message = answer.split(" ", 1)
        assert status == "2", (mutation.name, answer)
        check(mutation, folder, message)


def test_bare_models_that_are_damaged_are_refused(read_natively: Ask, good: Path, tmp_path: Path) -> None:
    made = list(make([*of_models(), *of_weights(), *of_contracts()], tmp_path, good))
    answers = read_natively([f"engine {path / ENGINE_FILE}" for _, path in made])
    for (mutation, folder), answer in zip(made, answers, strict=True):
        # Without a manifest nobody knows that a bit was flipped, or that something followed.
        if not mutation.words.startswith("hash"):
            assert answer.startswith("2 ") and f"{folder.name}/{ENGINE_FILE}" in answer, (mutation.name, answer)


@pytest.mark.parametrize("name", ["nowhere", "nowhere/engine.onnx", "", "x" * 5000, "a\udcffb", "a\nb", "/dev/zero"])
def test_paths_to_nothing_are_refused(tmp_path: Path, name: str) -> None:
    status, message = refusal(tmp_path / name)
    assert status == abi.BAD_FILE and len(message.splitlines()) == 1


def test_the_library_refuses_all_damaged_engines(good: Path, tmp_path: Path) -> None:
    for mutation, folder in make(FILES, tmp_path, good):
        status, message = refusal(folder)
        assert status == abi.BAD_FILE, (mutation.name, message)
        check(mutation, folder, message)


@pytest.mark.parametrize("mutation", NETWORKS, ids=[mutation.name for mutation in NETWORKS])
def test_networks_that_break_their_contract_are_refused(good: Path, tmp_path: Path, mutation: Mutation) -> None:
    pytest.importorskip("onnxruntime")
    _, folder = next(make([mutation], tmp_path, good))
    status, message = refusal(folder)
    assert status in (abi.BAD_FILE, BACKEND_FAILED), message
    check(mutation, folder, message)
