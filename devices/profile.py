"""Targets by name: profiles in `profiles/*.toml`, families that stand for the member at hand, software to choose from.

A *profile* is one kind of machine. A *family* (`jetson`, `x86-cpu`) stands for the member at hand. What builds and
runs engines there is a *software* row, from one release to the next; `name@key` chooses one: `jetson-xavier-nx@5.1`.

Figures of a profile, where it has them (dense: no figure counts skipped zeros, `marketing_tops` excepted):
`gpu_clock`, `tensor_clock`, `cpu_clock`, `memory_clock` in MHz at the highest power mode; `cores` of a CPU;
`fp32_peak`, `fp16_peak` in TFLOPS and `int8_peak` in TOPS of the GPU or CPU alone (FP16 with sums in FP32, as strongly
typed graphs ask; `fp16_sum16_peak`: sums in FP16); `memory` in GB, `memory_bus` in bits, `bandwidth` in GB/s;
`tdp` in W; `marketing_tops`: the vendor's headline, INT8 with zeros skipped, GPU and DLA together.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Type, TypeVar

from pydantic import BaseModel, ValidationError

from devices import jetson
from devices.host import Host, detect
from devices.nvidia import gpus
from devices.schema import Dla, Family, Figure, Lack, PowerMode, Profile, Software
from runtime.errors import BadInput, Refused

__all__ = [
    "Dla", "Family", "Figure", "Lack", "PowerMode", "Profile", "Resolved", "Software",
    "families", "here", "jetpack", "load", "module", "names", "parse", "resolve", "software",
]  # fmt: skip

HERE = Path(__file__).parent
FOLDER = HERE / "profiles"
FAMILIES = HERE / "families.toml"
SOFTWARE = HERE / "software.toml"
X86 = ("x86_64", "AMD64")


class Resolved(NamedTuple):
    """A target made definite."""

    profile: Profile
    software: Software
    said: Tuple[str, ...]  # lines for the user: what was assumed or recognised
    at_hand: bool  # whether this machine is that target and, where its release is told, has that software
    dla: bool = False  # whether its deep learning accelerator is meant, where that takes a layer, not its GPU


class _Machine:
    """The machine whose files lie below `root`, read when asked."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def board(self) -> Optional[jetson.Jetson]:
        return jetson.read(self.root)

    @cached_property
    def host(self) -> Host:
        return detect(self.root)

    @cached_property
    def gpu_names(self) -> List[str]:
        return [gpu.name for gpu in gpus()] if self.root == Path("/") else []

    @property
    def is_x86(self) -> bool:
        """By the CPU's own flags where the files tell them: they may be of another machine than the interpreter's."""
        told = (self.root / "proc/cpuinfo").exists()
        return bool({"sse4_2", "avx", "avx2"} & set(self.host.flags)) if told else self.host.machine in X86

    def is_a(self, profile: Profile) -> bool:
        """Whether it is of the kind that `profile` describes."""
        if profile.soc:
            try:
                return self.board is not None and module(self.board)[0].name == profile.name
            except Refused:
                return False
        if profile.kind == "gpu":
            return bool(set(self.gpu_names) & set(profile.known_as))
        if profile.host_flags:
            return self.is_x86 and bool(set(profile.host_flags) & set(self.host.flags))
        return any(name in self.host.board for name in profile.known_as)


def names() -> List[str]:
    """Names of all targets: families first, then profiles."""
    return sorted(families()) + profile_names()


def profile_names() -> List[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Profile:
    """The profile of target `name`, which is no family: those are for `resolve`.

    Raises `BadInput` naming the known targets.
    """
    if name not in profile_names():
        near = [item for item in names() if name and name in item] or get_close_matches(name, names(), n=3)
        known = f"did you mean {' or '.join(near)}?" if near else f"known targets: {', '.join(names())}"
        raise BadInput(f"no target '{name}'; {known}")
    return parse(FOLDER / f"{name}.toml")


@lru_cache(maxsize=None)
def parse(path: Path) -> Profile:
    """Read and validate one profile file. Raises `BadInput` naming file and field."""
    raw = _toml(path)
    keys = raw.get("software", [])
    unknown = [key for key in keys if key not in software()] if isinstance(keys, list) else []
    if unknown:
        raise BadInput(f"profile {path}: software '{unknown[0]}' is not in {SOFTWARE.name}")
    raw["software"] = [software()[key] for key in keys]
    _put_sources(raw, raw.pop("sources", {}))
    profile = _validated(Profile, raw, path)
    if profile.name != path.stem:
        raise BadInput(f"profile {path} calls itself '{profile.name}'; name and file must agree")
    return profile


def _put_sources(values: Dict[str, Any], sources: Dict[str, str]) -> None:
    """Replace a source's short name by its text, wherever one stands."""
    for key, value in values.items():
        if isinstance(value, dict):
            _put_sources(value, sources)
        elif key in ("source", "power_source"):
            values[key] = sources.get(value, value)


@lru_cache(maxsize=None)
def families() -> Dict[str, Family]:
    """Families by name."""
    rows = [_validated(Family, row, FAMILIES) for row in _toml(FAMILIES).get("family", [])]
    return {row.name: row for row in rows}


@lru_cache(maxsize=None)
def software() -> Dict[str, Software]:
    """Software rows by key."""
    rows = [_validated(Software, row, SOFTWARE) for row in _toml(SOFTWARE).get("software", [])]
    return {row.key: row for row in rows}


@lru_cache(maxsize=None)
def _too_old() -> Dict[str, Dict[str, Any]]:
    """Rows of releases that no dialect covers, by L4T."""
    return {l4t: row for row in _toml(SOFTWARE).get("too_old", []) for l4t in row["l4t"]}


def resolve(name: str, root: Path = Path("/")) -> Resolved:
    """Make `name` definite: a family becomes the member at hand, `name@key` fixes the software.

    `root` is where /proc, /sys, /etc and /var of the machine lie. Raises `BadInput` for an unknown target or key,
    `Refused` on a Jetson whose module or L4T release is unknown, saying what was read.
    """
    wanted, _, key = name.partition("@")
    machine = _Machine(root)
    said: List[str] = []
    if wanted in families():
        profile, present, said = _member(families()[wanted], machine)
    else:
        profile = load(wanted)
        present = machine.is_a(profile)
    row, words, fits = _chosen(profile, key, machine.board if present else None)
    if wanted in families() and not present:
        said.append(
            f"no {families()[wanted].machine} here: {wanted} means {profile.name} with {row.name}; "
            "name the target if it is another (signedge devices list)"
        )
    return Resolved(profile, row, tuple(said + words), present and fits)


def here(root: Path = Path("/")) -> List[Profile]:
    """The profiles that this machine is: its Jetson module, its CPU, its GPUs. Unknown ones are left out."""
    machine = _Machine(root)
    return [item for item in map(load, profile_names()) if machine.is_a(item)]


def module(board: jetson.Jetson) -> Tuple[Profile, List[str]]:
    """The profile of a Jetson and what to say of it. Raises `Refused` naming what was read, where none fits."""
    known = [item for item in map(load, profile_names()) if item.soc]
    tokens = set(jetson.tokens(board))
    named = [(len(token), item) for item in known for token in item.known_as if token in tokens]
    if named:  # p3767-0005-super tells more than p3767-0005
        return _with_memory(max(named, key=lambda pair: pair[0])[1], board)
    plain = [item for item in known if item.soc == board.soc and not item.name.endswith("-super")]
    fitting = [item for item in plain if _memory_fits(item.figures["memory"].value, board)]
    worded = [item for item in fitting if item.series in board.model]
    if len(worded or fitting) == 1:
        found = (worded or fitting)[0]
        return found, [f"{found.name} by chip, memory and model; its number is not known: {jetson.told(board)}"]
    raise Refused(
        f"this Jetson's module is not known; read: {jetson.told(board)}; "
        f"choose the nearest by name: {', '.join(item.name for item in plain or known)}"
    )


def _with_memory(named: Profile, board: jetson.Jetson) -> Tuple[Profile, List[str]]:
    """The module that the device tree names, or its sister, where the memory is the sister's."""
    size = f"{board.memory_mb} MiB"
    if _memory_fits(named.figures["memory"].value, board):
        return named, []
    if any(_memory_fits(other, board) for other in named.other_memory):
        return named, [f"{named.name} with {size}: the same GPU, other memory"]
    for item in map(load, profile_names()):
        alike = item.series == named.series and item.name.endswith("-super") == named.name.endswith("-super")
        if alike and _memory_fits(item.figures["memory"].value, board):
            return item, [f"{item.name} by its {size}, though the device tree names {named.name}"]
    return named, [f"{named.name} by its device tree; its {size} are not what such a module has"]


def _memory_fits(nominal: float, board: jetson.Jetson) -> bool:
    """Whether it is a module of `nominal` GB: the kernel manages a little less. Unknown memory fits all."""
    return board.memory_mb is None or 0.75 < board.memory_mb / (nominal * 1024) <= 1.01


def _member(family: Family, machine: _Machine) -> Tuple[Profile, bool, List[str]]:
    """The member of `family` at hand, whether there is one, and what to say; the default where there is none."""
    default = load(family.default)
    if default.soc:
        if machine.board is None:
            return default, False, []
        found, words = module(machine.board)
        return found, True, words
    if not machine.is_x86:
        return default, False, []
    members = [item for item in map(load, profile_names()) if item.family == family.name]
    fitting = [item for item in members if machine.is_a(item)]
    if fitting:
        return max(fitting, key=lambda item: item.int8_exact), True, []
    nearest = min(members, key=lambda item: item.int8_exact).model_copy(update={"host_flags": ()})
    return nearest, True, [f"this CPU has neither AVX2 nor VNNI; {nearest.name} is the nearest target, slower here"]


def _chosen(profile: Profile, key: str, board: Optional[jetson.Jetson]) -> Tuple[Software, List[str], bool]:
    """The software row, what to say of it, and whether it is the one at hand. `board`: this Jetson is the target."""
    at_hand = [row for row in profile.software if board and board.l4t in row.releases]
    if key:
        rows = [row for row in profile.software if key == row.key or key in row.releases.values()]
        if not rows:
            keys = ", ".join(row.key for row in profile.software)
            raise BadInput(f"target {profile.name} has no software '{key}'; it has: {keys}")
        if board is None or rows[0] in at_hand:
            return rows[0], [], True
        have = jetpack(board.l4t) or f"L4T {board.l4t or 'unknown'}"
        return rows[0], [f"{rows[0].name} was asked for; this machine has {have}"], False
    if board is None:
        return profile.software[0], [], True
    if not at_hand:
        keys = ", ".join(f"{profile.name}@{row.key}" for row in profile.software)
        raise Refused(f"{_unfit(profile, board.l4t)}; read: {jetson.told(board)}; to choose by hand: {keys}")
    row = at_hand[0]
    words = f"{profile.name} at hand: {row.release(board.l4t)} (L4T {board.l4t}), {row.runtime} {row.version}"
    return row, [words], True


def jetpack(l4t: str) -> str:
    """The JetPack of an L4T release: "JetPack 6.2.1"; "" where it is not known."""
    rows = [row for row in software().values() if l4t in row.releases]
    return rows[0].release(l4t) if rows else str(_too_old().get(l4t, {}).get("name", ""))


def _unfit(profile: Profile, l4t: str) -> str:
    """Why no software row of `profile` is the one at hand, and what to do."""
    if l4t in _too_old():
        row = _too_old()[l4t]
        return f"{row['name']} (L4T {l4t}) has {row['runtime']}, which no dialect describes: {row['instead']}"
    if not l4t:
        return f"{profile.name} tells no L4T release, neither in /{jetson.RELEASE} nor as package nvidia-l4t-core"
    if jetpack(l4t):
        return f"{jetpack(l4t)} (L4T {l4t}) is not known to run on {profile.name}"
    return f"L4T {l4t} is not known to signedge"


_Model = TypeVar("_Model", bound=BaseModel)


def _validated(model: Type[_Model], raw: Dict[str, Any], path: Path) -> _Model:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(item) for item in first["loc"]) or "file"
        raise BadInput(f"profile {path}: {where}: {first['msg']}") from error


def _toml(path: Path) -> Dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot read profile {path}: {error}") from error


