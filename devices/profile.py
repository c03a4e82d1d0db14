"""Target profiles: data in `profiles/*.toml`, validated on load."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Dict, List, Tuple

from devices.host import Host
from runtime.errors import BadInput

FOLDER = Path(__file__).parent / "profiles"


@dataclass(frozen=True)
class Profile:
    """What a target is and what can be built for it."""

    name: str
    description: str
    kind: str  # cpu or gpu
    machines: Tuple[str, ...]  # names of the architecture as `platform.machine()` gives them
    runtime: str
    buildable: bool  # whether this version can build an engine for it
    precisions: Tuple[str, ...]
    max_opset: int
    int8_flavour: str = ""  # types of activations and weights in Q/DQ that are fast there
    int8_flags: Tuple[str, ...] = ()  # CPU flags of which one is needed for exact 8-bit sums
    why_not: str = ""  # the reason, where it is not buildable

    def runs_on(self, host: Host) -> bool:
        """Whether `host` is a machine of this kind."""
        return self.kind == "cpu" and host.machine in self.machines

    def int8_is_exact(self, host: Host) -> bool:
        """Whether `host` sums 8-bit products without saturation."""
        return not self.int8_flags or bool(set(self.int8_flags) & set(host.flags))


def names() -> List[str]:
    """Names of all known targets."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Profile:
    """The profile of target `name`. Raises `BadInput` naming the known ones."""
    if name not in names():
        raise BadInput(f"no target '{name}'; known targets: {', '.join(names())}")
    return parse(FOLDER / f"{name}.toml")


def parse(path: Path) -> Profile:
    """Read and validate one profile file. Raises `BadInput` naming file and field."""
    import tomllib

    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot read profile {path}: {error}") from error
    values: Dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
    unknown = sorted(set(values) - {field.name for field in fields(Profile)})
    if unknown:
        raise BadInput(f"profile {path}: unknown field {unknown[0]}")
    try:
        profile = Profile(**values)
    except TypeError as error:
        raise BadInput(f"profile {path} is incomplete: {error}") from error
    return _checked(profile, path)


def _checked(profile: Profile, path: Path) -> Profile:
    types: Dict[str, type] = {"str": str, "bool": bool, "int": int}
    for field in fields(Profile):
        value: Any = getattr(profile, field.name)
        expected = types.get(str(field.type), tuple)
        if type(value) is not expected:
            raise BadInput(f"profile {path}: {field.name} has the wrong type ({type(value).__name__})")
        if isinstance(value, tuple) and not all(isinstance(item, str) for item in value):
            raise BadInput(f"profile {path}: {field.name} must be a list of strings")
    if profile.name != path.stem:
        raise BadInput(f"profile {path} calls itself '{profile.name}'; name and file must agree")
    if profile.kind not in ("cpu", "gpu"):
        raise BadInput(f"profile {path}: kind '{profile.kind}' is neither cpu nor gpu")
    if not profile.buildable and not profile.why_not:
        raise BadInput(f"profile {path}: a target that cannot be built needs why_not")
    return profile
