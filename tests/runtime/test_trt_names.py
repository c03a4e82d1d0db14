"""Code that cannot run here names nothing that is not there: its names of TensorRT's API, held against each version."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorrt_names

SOURCES = sorted((Path(__file__).parents[2] / "runtime" / "trt").glob("*.py"))
LISTS = json.loads((Path(__file__).parent / "data" / "tensorrt_names.json").read_text())
VARIABLE = "SIGNEDGE_TENSORRT_PYTHON"
RTX = "1.7.1"  # the version of tensorrt_rtx that the list has
# How this folder calls what is of a class -> the class.
OWNERS = {
    "builder": "Builder", "config": "IBuilderConfig", "network": "INetworkDefinition", "parser": "OnnxParser",
    "parser_error": "ParserError", "tensor": "ITensor", "layer": "ILayer", "profile": "IOptimizationProfile",
    "runtime": "Runtime", "_runtime": "Runtime", "engine": "ICudaEngine", "_engine": "ICudaEngine",
    "context": "IExecutionContext", "_shared": "IExecutionContext",
}  # fmt: skip
RETURNS = {"get_timing_cache": "ITimingCache", "create_engine_inspector": "EngineInspector"}
# A name that is used only where another is there. What `has` is asked for guards itself.
GUARDS = {
    "MemoryPoolType": "IBuilderConfig.set_memory_pool_limit",
    "MemoryPoolType.WORKSPACE": "IBuilderConfig.set_memory_pool_limit",
    "IBuilderConfig.num_compute_capabilities": "IBuilderConfig.set_compute_capability",
    "ParserError.node_operator": "ParserError.node_name",
    "ILayer.precision": "BuilderFlag.OBEY_PRECISION_CONSTRAINTS",
    "ILayer.set_output_type": "BuilderFlag.OBEY_PRECISION_CONSTRAINTS",
}
# What the files that are given a module call things that are not of it.
OTHERS = {
    "_addresses", "_graphs", "_seen", "_stream", "capability", "counts", "entry", "header", "item", "key", "line",
    "lines", "listings", "logger", "missing", "name", "place", "plain", "ranges", "remedy", "request", "row", "self",
    "setting", "text", "value", "wanted", "x",
}  # fmt: skip
FILE_GUARDS = {"run.py": "IExecutionContext.execute_async_v3"}


def versions(name: str) -> set[str]:
    """The versions that have `Class.name`, or a class."""
    owner, _, member = name.rpartition(".")
    return set(LISTS["names"].get(owner, {}).get(member, ()))


def used(path: Path) -> Iterator[tuple[str, int]]:
    """(`Class.name` or `Class`, line) of every name that a file takes from the module or from what it made."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Attribute) or node.attr.startswith("__"):
            continue
        value = node.value
        if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name) and value.value.id == "trt":
            yield f"{value.attr}.{node.attr}", node.lineno
        elif isinstance(value, ast.Name) and value.id == "trt":
            yield node.attr, node.lineno
        elif isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in RETURNS:
            yield f"{RETURNS[value.func.attr]}.{node.attr}", node.lineno
        else:
            called = value.id if isinstance(value, ast.Name) else getattr(value, "attr", None)
            if called in OWNERS:
                yield f"{OWNERS[called]}.{node.attr}", node.lineno


def asked() -> set[str]:
    """The names that the code asks for before it uses them, and classes whose members it asks for by variable."""
    constants = {
        node.value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    names = {text.rstrip(".") for text in constants if re.fullmatch(r"[A-Z]\w+(\.\w*)?", text)}
    return {name for name in names if versions(name)}


ASKED = asked()
USED = {(name, path.name) for path in SOURCES for name, _ in used(path)}


def test_the_names_are_found() -> None:
    names = {name for name, _ in USED}
    assert {
        "Builder.build_serialized_network", "IBuilderConfig.set_timing_cache", "ITimingCache.serialize",
        "OnnxParser.parse", "ProfilingVerbosity.DETAILED", "IExecutionContext.execute_async_v3",
        "Runtime.deserialize_cuda_engine", "EngineInspector.get_engine_information", "ITensor.shape", "ILogger",
        "ParserError.desc",
    } <= names  # fmt: skip
    assert len(names) > 50 and len(ASKED) > 15


@pytest.mark.parametrize(("name", "file"), sorted(USED))
def test_a_name_is_in_every_version_that_may_get_to_it(name: str, file: str) -> None:
    owner = name.split(".")[0]
    guard = next((known for known in (name, owner) if known in ASKED), GUARDS.get(name, FILE_GUARDS.get(file)))
    reached = versions(guard) if guard else set(LISTS["versions"])
    assert versions(name), f"{name}: no version has it"
    assert reached <= versions(name), f"{name} is not in {sorted(reached - versions(name))}"


def receivers(path: Path) -> Iterator[tuple[str, int]]:
    """(variable or field of self, line) of what a file takes attributes of, but for what it imports and constants."""
    tree = ast.parse(path.read_text())
    imported = {item.asname or item.name for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)
                for item in node.names}  # fmt: skip
    for node in ast.walk(tree):
        value = node.value if isinstance(node, ast.Attribute) else None
        field = ""
        while isinstance(value, ast.Attribute | ast.Subscript | ast.Call):
            field = value.attr if isinstance(value, ast.Attribute) else field
            value = value.func if isinstance(value, ast.Call) else value.value
        if isinstance(value, ast.Name) and value.id not in imported and value.id.lower() == value.id:
            yield (field if value.id == "self" and field else value.id), value.lineno


@pytest.mark.parametrize("file", ["build.py", "inspect.py", "module.py", "run.py"])
def test_no_object_of_the_module_goes_by_a_name_that_is_not_looked_at(file: str) -> None:
    """A new variable is either one of OWNERS, so that what is taken from it is looked up, or one of OTHERS."""
    (path,) = (path for path in SOURCES if path.name == file)
    known = {*OWNERS, *OTHERS, "trt", "_trt", "str", "dict"}
    assert not [(name, line) for name, line in receivers(path) if name not in known]


def test_flags_that_are_set_by_name_are_those_that_were_asked_for() -> None:
    (path,) = (path for path in SOURCES if path.name == "build.py")
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    settings = [node for node in calls if isinstance(node.func, ast.Name) and node.func.id == "Setting"]
    flags = 0
    for setting in settings:
        *_, needs, apply = setting.args
        if isinstance(apply, ast.Call):  # _flag("FP16")
            flags += 1
            assert [f"BuilderFlag.{ast.literal_eval(apply.args[0])}"] == list(ast.literal_eval(needs))
    assert flags >= 4


def test_all_that_is_asked_for_by_name_exists_somewhere() -> None:
    """A misspelt name in `has` would be absent for ever, in silence."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                match = re.fullmatch(r"([A-Z][A-Za-z]+)\.(\w+)", node.value)
                assert not match or versions(node.value), f"{path.name}:{node.lineno}: {node.value}"


def test_the_installed_module_has_what_the_list_says() -> None:
    rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    if not rtx.__version__.startswith(RTX):
        pytest.skip(f"the list is of tensorrt_rtx {RTX}; installed is {rtx.__version__}")
    found = tensorrt_names.listed("tensorrt_rtx")
    for owner, names in LISTS["names"].items():
        assert {name for name, has in names.items() if "rtx" in has} == set(found.get(owner, ())), owner


@pytest.mark.slow
def test_classic_tensorrt_has_what_the_list_says() -> None:
    """With a Python that has tensorrt 8.6.0 ($SIGNEDGE_TENSORRT_PYTHON)."""
    python = os.environ.get(VARIABLE)
    if not python:
        pytest.skip(f"${VARIABLE} names no Python with tensorrt")
    command = [python, tensorrt_names.__file__, "list", "tensorrt"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    for owner, names in LISTS["names"].items():
        assert {name for name, has in names.items() if "8.6" in has} == set(found.get(owner, ())), owner
