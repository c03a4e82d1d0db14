"""Networks that are not ours: imported, given their weights, and wrapped so that they are exported as ours are."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from export import parity
from export.foreign_files import fit_weights, read_glosses, read_weights
from export.foreign_spec import RGB_LAYOUTS, ForeignSpec, PixelPart, make_contract, read_spec
from export.traps import Lengths, equal_forms, place
from runtime.contract import Contract
from runtime.errors import BadInput
from runtime.hashing import sha256_bytes, sha256_file

OURS = ("bench", "devices", "distill", "export", "runtime", "signedge")  # modules at this project's top
LENGTHS_TRIED = (1, 2, 13, 30)  # frames of the clips that a network is tried with before it is exported


@dataclass
class Foreign:
    """A network that is not ours, ready for `export.onnx_graph.export_onnx`."""

    module: ForeignNetwork
    contract: Contract
    left_out: dict[str, int]  # parameters that its result does not depend on -> elements
    foldable: frozenset[str]  # parameters that its own arithmetic may fold together


def load_foreign(factory: str, weights: Path, contract: Path) -> Foreign:
    """Import `factory` (package.module:callable), give it `weights`, and wrap it as the contract file says.

    The current folder is looked in first. Raises `BadInput` for a factory that cannot be imported or called, weights
    that do not fit, a contract with a field that is missing or wrong, or a network that does not keep to it.
    """
    spec = read_spec(contract)
    glosses = read_glosses(spec.glosses, contract.parent, spec.blank)
    sources = {"recipe": sha256_bytes(contract.read_bytes() + factory.encode())}
    stored = read_weights(weights)
    agreed = make_contract(spec, glosses, {**sources, "checkpoint": sha256_file(weights)}, contract)
    network = _build(factory, spec.build)
    fit_weights(network, stored, weights)
    _for_good(network, spec.call.skip, contract)
    module = ForeignNetwork(network, spec).eval()
    check_call(module, agreed, spec, contract)
    return Foreign(module, agreed, unreached(module, agreed), frozenset(_own_arithmetic(module)))


def _build(factory: str, arguments: dict[str, Any]) -> nn.Module:
    """The network that the factory makes. Whatever it raises is told with the line it was raised at."""
    module_name, _, name = factory.partition(":")
    if not module_name or not name:
        raise BadInput(f"--model is '{factory}'; it must be package.module:factory, such as slr_network:build")
    here = Path.cwd()
    with _looked_in_first(here):
        make = _factory(module_name, name, here)
        _check_arguments(make, arguments, factory)
        try:
            network = make(**arguments)
        except (Exception, SystemExit) as error:
            raise BadInput(f"--model: {factory} failed: {_told(error)}") from error
    if not isinstance(network, nn.Module):
        raise BadInput(f"--model: {factory} gives a {type(network).__name__}; it must give a torch.nn.Module")
    return network.float().cpu()


def _factory(module_name: str, name: str, here: Path) -> Any:
    """What `module_name` has under `name`, if it can be called."""
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        own = error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}."))
        reason = "it is not in this folder nor installed" if own else f"it needs '{error.name}', which is not installed"
        reason = _hidden(error.name or module_name, here) or reason
        raise BadInput(f"--model: cannot import {module_name}: {reason} (this folder: {here})") from error
    except (Exception, SystemExit) as error:
        hidden = _hidden(getattr(error, "name", "") or "", here) if isinstance(error, ImportError) else ""
        raise BadInput(f"--model: cannot import {module_name}: {_told(error)}{hidden and f'; {hidden}'}") from error
    if not hasattr(module, name):
        near = difflib.get_close_matches(name, dir(module), n=1)
        more = _hidden(module_name, here) or (f"did you mean {near[0]}?" if near else "")
        raise BadInput(f"--model: {module_name} ({module.__file__}) has no '{name}'{more and f'; {more}'}")
    make = getattr(module, name)
    if not callable(make):
        raise BadInput(f"--model: {module_name}:{name} is a {type(make).__name__}; it must be a function or a class")
    return make


@contextlib.contextmanager
def _looked_in_first(folder: Path) -> Iterator[None]:
    """Within, modules are looked for in `folder` first, as for a script that lies there; afterwards, last.

    What a network imports only while it runs is found, and nothing of the folder takes the place of what is installed.
    """
    if sys.path[:1] in ([""], [str(folder)]):
        yield
        return
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


def _hidden(module_name: str, folder: Path) -> str:
    """What to say where `folder` has that module, but another of its name was imported before; empty otherwise."""
    top = module_name.partition(".")[0]
    there = sys.modules.get(top)
    if there is None or not ((folder / top).is_dir() or (folder / f"{top}.py").is_file()):
        return ""
    named = [getattr(there, "__file__", None), *getattr(there, "__path__", ())]
    places = [Path(item).resolve() for item in named if item]
    if any(item.is_relative_to(folder.resolve()) for item in places):
        return ""
    whose = "signedge has one" if top in OURS else f"there is another ({places[0] if places else 'of Python itself'})"
    return f"this folder has a '{top}', but {whose} of this name; give yours another name (a link will do)"


def _check_arguments(make: Any, arguments: dict[str, Any], factory: str) -> None:
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):  # what is written in C may not tell
        return
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise BadInput(f"--model: {factory}{signature}: {error}; the contract's `build` gives its arguments") from error


def _told(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"{place(error)}it ended the program; arguments are parsed under `if __name__ == '__main__':`"
    return f"{place(error)}{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _for_good(network: nn.Module, skip: list[str], path: Path) -> None:
    """Take off what only training needs: hooks on gradients, weights kept in parts, methods that are not to run."""
    for module in network.modules():
        for hooks in (module._backward_hooks, module._backward_pre_hooks):
            hooks.clear()
        for name in list(getattr(module, "parametrizations", ())):
            parametrize.remove_parametrizations(module, name)
        for key, hook in list(module._forward_pre_hooks.items()):
            if isinstance(hook, WeightNorm | SpectralNorm):
                hook.remove(module)
                del module._forward_pre_hooks[key]
    for dotted in skip:
        *holders, name = dotted.split(".")
        target: Any = network
        try:
            for holder in holders:
                target = getattr(target, holder)
            getattr(target, name)
        except AttributeError as error:
            raise BadInput(f"{path}: call.skip: the network has no '{dotted}': {error}") from error
        object.__setattr__(target, name, _nothing)
    network.eval()


def _nothing(*_: Any, **__: Any) -> None:
    return None


class ForeignNetwork(nn.Module):
    """A network that is not ours in the form that is exported: x (B,T',...) float32 -> log-probabilities (B,N,K).

    Run by itself it is the untouched network, one clip after the other, with lengths in a tensor; this is what the
    exported graph is compared with. While it is exported, `traps.equal_forms` stand in for what cannot be.
    """

    gain: Tensor
    offset: Tensor

    def __init__(self, network: nn.Module, spec: ForeignSpec) -> None:
        super().__init__()
        self.network, self.call, self.blank = network, spec.call, spec.blank
        self.crop = spec.pixels.crop if spec.pixels else 0
        pixels = spec.pixels or PixelPart()
        self.channels = [2, 1, 0] if pixels.order == "BGR" else list(spec.call.channels)
        mean, std = torch.tensor(pixels.mean, dtype=torch.float64), torch.tensor(pixels.std, dtype=torch.float64)
        # Our pixels are v / 127.5 - 1, the network's (v / scale - mean) / std: an affine map from ours to its.
        gain, offset = 127.5 / pixels.scale / std, (127.5 / pixels.scale - mean) / std
        self.affine = bool((gain != 1).any() or (offset != 0).any())
        self.register_buffer("gain", gain.float().reshape(3, 1, 1), persistent=False)
        self.register_buffer("offset", offset.float().reshape(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B,T',3,H,W) or (B,T',V,5) float32 -> (B,N,K) float32."""
        if torch.onnx.is_in_onnx_export():
            with equal_forms():
                return self.log_probs(self.result(x, Lengths(x.shape[1], x.shape[0])))
        clips = [self.result(clip.clone(), torch.tensor([x.shape[1]])) for clip in x.split(1)]
        return torch.cat([self.log_probs(clip) for clip in clips])

    def result(self, x: Tensor, lengths: Any) -> Tensor:
        """What the contract names of the network's result, as the network gives it."""
        given: list[Any] = [self.arranged(x)]
        named = dict(self.call.arguments)
        if self.call.lengths is True:
            given.append(lengths)
        elif self.call.lengths:
            named[str(self.call.lengths)] = lengths
        return pick(self.network(*given, **named), self.call.output)

    def arranged(self, x: Tensor) -> Tensor:
        """Our input as the network wants it: crop, order and range of colours, choice of channels, order of axes."""
        if self.crop:
            top, left = ((side - self.crop) // 2 for side in x.shape[-2:])
            x = x[..., top : top + self.crop, left : left + self.crop]
        rgb = self.call.frames in RGB_LAYOUTS
        if self.channels:
            axis = 2 if rgb else 3
            x = torch.cat([x.narrow(axis, channel, 1) for channel in self.channels], axis)
        if rgb and self.affine:
            x = x * self.gain + self.offset
        return _permuted(x, "BTCHW" if rgb else "BTVC", self.call.frames)

    def log_probs(self, scores: Tensor) -> Tensor:
        """The network's scores -> (B,N,K) log-probabilities, the blank first."""
        axes: str = self.call.axes
        if "B" not in axes:
            scores, axes = scores.unsqueeze(0), f"B{axes}"
        scores = scores.permute([axes.index(axis) for axis in "BTK"])
        if self.call.scores == "logits":
            scores = scores.log_softmax(-1)
        elif self.call.scores == "probs":
            scores = scores.clamp_min(1e-30).log()
        if self.blank:
            before, at, after = scores.split([self.blank, 1, scores.shape[2] - self.blank - 1], 2)
            scores = torch.cat([at, before, after], 2)
        return scores


def _permuted(x: Tensor, ours: str, wanted: str) -> Tensor:
    if wanted == "BTF":
        return x.flatten(2)
    if "B" not in wanted:
        x, ours = x.squeeze(0), ours[1:]
    x = x.permute([ours.index(axis) for axis in wanted if axis in ours])
    return x.unsqueeze(-1) if wanted.endswith("M") else x


def pick(result: Any, output: str | int | None) -> Tensor:
    """The tensor meant among what a network gave. Raises `BadInput` that says what there is."""
    found = result
    if isinstance(output, str):
        found = result.get(output) if isinstance(result, Mapping) else getattr(result, output, None)
    elif output is not None:
        found = result[output] if isinstance(result, tuple | list) and -len(result) <= output < len(result) else None
    if not isinstance(found, Tensor):
        name = "the result" if output is None else f"'{output}'"
        raise BadInput(f"call.output: {name} is no tensor; the network gives {_inside(result)}")
    return found


def _inside(result: Any) -> str:
    items: Any = ()
    if isinstance(result, Mapping):
        items = result.items()
    elif isinstance(result, tuple | list):
        items = enumerate(result)
    elif isinstance(result, Tensor):
        return f"a tensor {tuple(result.shape)}"
    described = [f"{name} {tuple(item.shape)}" for name, item in items if isinstance(item, Tensor)]
    return f"a {type(result).__name__} with the tensors {', '.join(described) or 'none'}"


def check_call(module: ForeignNetwork, contract: Contract, spec: ForeignSpec, path: Path) -> None:
    """Run the network on clips of several lengths. Raises `BadInput` if it fails or does not keep to its contract."""
    for frames in LENGTHS_TRIED:
        x = torch.from_numpy(parity.plausible_clip(contract, frames, seed=0))
        try:
            with torch.no_grad():
                scores = module.result(x.clone(), torch.tensor([x.shape[1]]))
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from error
        except Exception as error:
            shape = tuple(module.arranged(x).shape)
            raise BadInput(
                f"the network fails on a clip of {frames} frames ({x.shape[1]} with padding, given as "
                f"{spec.call.frames} {shape}): {_told(error)}{_fitting(module, contract, spec)}"
            ) from error
        _check_scores(scores, module, contract, spec, frames, path)


def _check_scores(
    scores: Tensor, module: ForeignNetwork, contract: Contract, spec: ForeignSpec, frames: int, path: Path
) -> None:
    axes, shape, classes = spec.call.axes, tuple(scores.shape), len(contract.glosses)
    if len(shape) != len(axes):
        raise BadInput(f"{path}: call.axes is {axes}; the network's output has the shape {shape}")
    sizes = dict(zip(axes, shape, strict=True))
    if sizes["K"] != classes:
        raise BadInput(
            f"{path}: the network gives {sizes['K']} classes, the contract names {classes} ({classes - 1} glosses and "
            f"the blank); its output has the shape {shape}, read as {axes}"
        )
    if sizes.get("B", 1) != 1:
        raise BadInput(f"{path}: call.axes is {axes}; for one clip the network's output has the shape {shape}")
    if sizes["T"] != contract.steps(frames):
        raise BadInput(
            f"{path}: the network gives {sizes['T']} steps for {frames} frames ({contract.padding.total(frames)} with "
            f"padding); with frame_stride {contract.frame_stride} there must be {contract.steps(frames)}"
            f"{_fitting(module, contract, spec)}"
        )
    if not scores.isfinite().all():
        raise BadInput(f"{path}: the network gives NaN or infinity for a clip of {frames} frames; check `pixels`")
    total = scores.exp().sum(axes.index("K")) if spec.call.scores == "log_probs" else scores.sum(axes.index("K"))
    if spec.call.scores != "logits" and not torch.allclose(total, torch.ones(()), atol=1e-3):
        raise BadInput(f"{path}: call.scores is {spec.call.scores}, but they do not add up to 1; say logits")


def _fitting(module: ForeignNetwork, contract: Contract, spec: ForeignSpec) -> str:
    """Which stride and padding would fit what the network does, found by running it."""
    axis = spec.call.axes.index("T")

    def steps(frames: int) -> int:
        x = torch.from_numpy(parity.plausible_clip(contract, 1, seed=0))[:, :1].repeat_interleave(frames, 1)
        with torch.no_grad(), contextlib.suppress(Exception):  # a hint; the fault itself is told anyway
            return int(module.result(x, torch.tensor([frames])).shape[axis])
        return -1

    few, many = steps(64), steps(128)
    if not 0 <= few < many:
        return ""
    stride = round(64 / (many - few))
    tried = range(8 * stride + 64)
    edges = next((n for n in tried if all(steps(n + stride * k) == k for k in (1, 2, 5))), None)
    if edges is None:
        return ""
    return (
        f"; what would fit is frame_stride: {stride}, "
        f"padding: {{left: {edges // 2}, right: {edges - edges // 2}, multiple: {stride}}}"
    )


def unreached(module: ForeignNetwork, contract: Contract) -> dict[str, int]:
    """Parameters that the log-probabilities do not depend on (heads of training), by name, with numbers of elements.

    Found by gradients, and shown by putting NaN in their places.
    """
    x = torch.from_numpy(parity.plausible_clip(contract, LENGTHS_TRIED[2], seed=0))
    parameters = {name: item for name, item in module.named_parameters() if item.is_floating_point()}
    idle = _without_gradient(module, x, parameters)
    if not idle or _same_with_nan(module, x, list(idle.values())):
        return {name: item.numel() for name, item in idle.items()}
    # Gradients were cut on the way (no_grad, detach): each by itself.
    return {name: item.numel() for name, item in idle.items() if _same_with_nan(module, x, [item])}


def _without_gradient(
    module: ForeignNetwork, x: Tensor, parameters: dict[str, nn.Parameter]
) -> dict[str, nn.Parameter]:
    """Those that no gradient of the result reaches; all, where the network cannot be derived."""
    for item in parameters.values():
        item.requires_grad_(True)
    slopes: Sequence[Tensor | None] = [None] * len(parameters)
    with torch.enable_grad(), contextlib.suppress(RuntimeError):  # what only ever runs forwards may write in place
        slopes = torch.autograd.grad(module(x).sum(), list(parameters.values()), allow_unused=True)
    module.requires_grad_(False)
    return {name: item for (name, item), slope in zip(parameters.items(), slopes, strict=True) if slope is None}


def _same_with_nan(module: ForeignNetwork, x: Tensor, parameters: list[nn.Parameter]) -> bool:
    kept = [item.detach().clone() for item in parameters]
    with torch.no_grad():
        result = module(x)
        try:
            for item in parameters:
                item.fill_(float("nan"))
            return torch.equal(module(x), result)
        except Exception:  # a network that looks for NaN in them depends on them
            return False
        finally:
            for item, before in zip(parameters, kept, strict=True):
                item.copy_(before)


def _own_arithmetic(module: nn.Module) -> Iterator[str]:
    """Parameters that belong to modules not of torch: what is computed of them alone may be folded into something."""
    for prefix, part in module.named_modules():
        if not type(part).__module__.startswith("torch.nn."):
            yield from (f"{prefix}.{name}".lstrip(".") for name, _ in part.named_parameters(recurse=False))
