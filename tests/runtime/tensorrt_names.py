"""Which names each version of TensorRT's Python API has: makes data/tensorrt_names.json, which a test reads.

    python tests/runtime/tensorrt_names.py list MODULE              names of a module that this Python imports, as JSON
    python tests/runtime/tensorrt_names.py stub BINDINGS.so FOLDER  libraries that let a bindings wheel be imported
    python tests/runtime/tensorrt_names.py source FOLDER            names in the pybind11 sources of a version, as JSON
    python tests/runtime/tensorrt_names.py merge VERSION=FILE...    the lists of versions as one file, to stdout

The wheels of 10 and 11 hold bindings whose libraries are not on PyPI; they import once the dozen C functions that they
link to exist, and what they then list is what they have. Nothing can be run that way. JetPack's 8.2 has no wheel at
all; its list comes from NVIDIA's published sources of the bindings. Standard library only, Python >= 3.9.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

# What a builder or runner may have to do with. "" stands for the module itself.
CLASSES = (
    "", "Builder", "BuilderFlag", "ComputeCapability", "DataType", "DeviceType", "EngineCapability", "EngineInspector",
    "HardwareCompatibilityLevel", "IBuilderConfig", "ICudaEngine", "IExecutionContext", "IHostMemory", "ILayer",
    "ILogger", "INetworkDefinition", "IOptimizationProfile", "IProgressMonitor", "IRuntimeConfig", "ITensor",
    "ITimingCache", "LayerInformationFormat", "MemoryPoolType", "NetworkDefinitionCreationFlag", "OnnxParser",
    "OnnxParserFlag", "ParserError", "PreviewFeature", "ProfilingVerbosity", "Runtime", "TensorIOMode",
)  # fmt: skip
Names = dict[str, list[str]]


def listed(module: str) -> Names:
    """{class: its names} of an importable module."""
    trt = importlib.import_module(module)
    owners = {name: getattr(trt, name, None) if name else trt for name in CLASSES}
    return {name: [item for item in dir(owner) if not item.startswith("_")] for name, owner in owners.items() if owner}


def stub(bindings: Path, folder: Path) -> None:
    """Shared libraries in `folder` with every C function that `bindings` wants of NVIDIA's, each doing nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    dynamic = subprocess.run(["readelf", "-d", str(bindings)], check=True, capture_output=True, text=True).stdout
    undefined = ["nm", "-D", "--undefined-only", str(bindings)]
    symbols = subprocess.run(undefined, check=True, capture_output=True, text=True).stdout
    # Python's names, and those with a version (of libc and the like), come from elsewhere.
    found = [line.split()[-1] for line in symbols.splitlines()]
    wanted = [name for name in found if re.match(r"([a-z]\w*|_ZN\d+nv\w*)$", name)]
    source = folder / "stub.c"
    source.write_text("".join(f"void {name}(void) {{}}\n" for name in wanted))
    for library in re.findall(r"\[(lib(?:nvinfer|nvonnx|nvparsers)[^\]]*)\]", dynamic):
        command = ["cc", "-w", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(folder / library), str(source)]
        subprocess.run(command, check=True)


def of_source(folder: Path) -> Names:
    """{class: its names} as the pybind11 sources below `folder` define them; the module's own names are its classes."""
    found: dict[str, set] = {}
    # .def, .def_property, .value and so on belong to the class whose py::class_ or py::enum_ came last.
    pattern = r'py::(?:class_|enum_)<.*?>\s*\w*[({]\s*\w+,\s*"(\w+)"|\.(?:def\w*|value)\(\s*"(\w+)"|m\.attr\("(\w+)"\)'
    for path in sorted(folder.rglob("*.cpp")):
        owner = ""
        for name, member, attribute in re.findall(pattern, path.read_text(errors="replace"), re.S):
            if name:
                owner = name
                found.setdefault("", set()).add(name)
                found.setdefault(owner, {"name", "value"} if "::enum_" in owner else set())
            elif not (member or attribute).startswith("_"):
                found.setdefault(owner if member else "", set()).add(member or attribute)
    return {name: sorted(found[name]) for name in CLASSES if name in found}


def merge(lists: dict[str, Names]) -> str:
    """JSON: {"versions": [...], "names": {class: {name: [versions that have it]}}}, one name a line."""
    names: dict[str, dict[str, list[str]]] = {}
    for version, classes in lists.items():
        for owner, members in classes.items():
            for member in members:
                names.setdefault(owner, {}).setdefault(member, []).append(version)
    lines = ["{", f' "versions": {json.dumps(list(lists))},', ' "names": {']
    for owner in sorted(names):
        lines.append(f"  {json.dumps(owner)}: {{")
        rows = [f"   {json.dumps(name)}: {json.dumps(names[owner][name])}" for name in sorted(names[owner])]
        lines += [*(row + "," for row in rows[:-1]), rows[-1], "  }," if owner != max(names) else "  }"]
    return "\n".join([*lines, " }", "}", ""])


def main(arguments: list[str]) -> int:
    """See the text at the top."""
    what, *rest = arguments
    if what == "list":
        print(json.dumps(listed(rest[0])))
    elif what == "stub":
        stub(Path(rest[0]), Path(rest[1]))
    elif what == "source":
        print(json.dumps(of_source(Path(rest[0]))))
    elif what == "merge":
        files = dict(argument.split("=", 1) for argument in rest)
        print(merge({version: json.loads(Path(path).read_text()) for version, path in files.items()}), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
