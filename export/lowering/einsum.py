"""Einsum as Transpose, Reshape and MatMul (or Mul, where nothing is summed), for equations that a runtime cannot read.

Operands are taken in from the left, two at a time. Of two operands, each index is one of four kinds: in both and kept
(batch), in both and summed, in the first only, in the second only. The product of matrices over the merged axes of the
last three kinds, one for each batch index, is the contraction. Sizes that are unknown before running are handed on by
`0` (as the input has it), by one `-1`, or where neither will do, by reading the operand's shape.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from export.graph import Axis, GraphView, attributes
from export.lowering.emit import Emit
from runtime.errors import Refused

if TYPE_CHECKING:
    from onnx import NodeProto

OPS = frozenset({"Einsum"})
SAYS = "the Einsum written as matrix products"


@dataclass
class Operand:
    """A tensor and the index of each of its axes."""

    name: str
    indices: str
    sizes: dict[str, Axis]  # of each index: a number where it is known


def run(view: GraphView, node: NodeProto) -> list[NodeProto]:
    """The nodes that replace `node`. Raises `Refused` for diagonals, and for an ellipsis over unknown ranks."""
    emit = Emit(view, node)
    operands, result = _read(view, node)
    product = operands[0]
    for index, other in enumerate(operands[1:], start=1):
        later = set(result).union(*(item.indices for item in operands[index + 1 :]))
        product = _contract(emit, product, other, later)
    product = _summed(emit, product, set(result))
    order = [product.indices.index(letter) for letter in result]
    return emit.finish(emit.transpose(product.name, order), node.output[0])


def _read(view: GraphView, node: NodeProto) -> tuple[list[Operand], str]:
    """Operands with one letter an axis, and the result's letters."""
    equation = str(attributes(node)["equation"]).replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    shapes = [view.shape(name) for name in node.input]
    spare = [letter for letter in string.ascii_letters if letter not in equation]
    widths = []
    for term, shape, name in zip(terms, shapes, node.input, strict=True):
        if "..." in term:
            if shape is None:
                raise Refused(f"node {node.name} (Einsum): how many axes '...' of {name} stands for is unknown")
            widths.append(len(shape) - len(term.replace("...", "")))
    dots = "".join(spare[: max(widths, default=0)])
    if not arrow:
        letters = "".join(terms).replace(".", "")
        right = ("..." if dots else "") + "".join(sorted({item for item in letters if letters.count(item) == 1}))
    operands = []
    for term, shape, name in zip(terms, shapes, node.input, strict=True):
        if "..." in term:
            width = len(shape or ()) - len(term.replace("...", ""))
            term = term.replace("...", dots[len(dots) - width :])
        if len(set(term)) != len(term):
            raise Refused(f"node {node.name} (Einsum '{equation}'): an index appears twice in '{term}' (a diagonal)")
        axes = shape if shape is not None and len(shape) == len(term) else (None,) * len(term)
        operands.append(Operand(name, term, dict(zip(term, axes, strict=True))))
    return operands, right.replace("...", dots)


def _contract(emit: Emit, a: Operand, b: Operand, later: set[str]) -> Operand:
    """One operand in place of two; indices that nothing needs later are summed."""
    a, b = _unstretched(emit, a, b, later), _unstretched(emit, b, a, later)
    a, b = _summed(emit, a, later | set(b.indices)), _summed(emit, b, later | set(a.indices))
    batch = [letter for letter in a.indices if letter in b.indices and letter in later]
    summed = [letter for letter in a.indices if letter in b.indices and letter not in later]
    rows = [letter for letter in a.indices if letter not in b.indices]
    columns = [letter for letter in b.indices if letter not in a.indices]
    sizes = {**a.sizes, **b.sizes}
    for letter in batch:  # a size of 1 is stretched to the other's
        sizes[letter] = b.sizes[letter] if a.sizes[letter] == 1 else a.sizes[letter]
    x = _in_order(emit, a, [*batch, *rows, *summed])
    y = _in_order(emit, b, [*batch, *summed, *columns])
    indices = "".join([*batch, *rows, *columns])
    if not summed:
        if columns and batch + rows:
            x = emit.unsqueeze(x, range(len(batch) + len(rows), len(indices)))
        if rows and columns + batch:
            y = emit.unsqueeze(y, range(len(batch), len(batch) + len(rows)))
        return Operand(emit.op("Mul", x, y), indices, sizes)
    apart = not batch and bool(rows)  # then the rows may stay apart: MatMul runs over all leading axes of the first
    shape = _Shape(emit, a, b)
    if apart:
        x = shape.merged(x, [[letter] for letter in rows] + [summed], [*rows, *summed])
    else:
        x = shape.merged(x, [[letter] for letter in batch] + [rows, summed], [*batch, *rows, *summed])
    y = shape.merged(y, [[letter] for letter in batch] + [summed, columns], [*batch, *summed, *columns])
    product = emit.op("MatMul", x, y)
    if (rows if apart else len(rows) == 1) and len(columns) == 1:
        return Operand(product, indices, sizes)
    kept = rows if apart else batch  # axes that are where they were
    return Operand(shape.split(product, kept, [item for item in indices if item not in kept]), indices, sizes)


def _unstretched(emit: Emit, a: Operand, other: Operand, later: set[str]) -> Operand:
    """`a` without the indices of size 1 that are summed against an axis of another size."""
    alone = [
        letter
        for letter in a.indices
        if letter in other.indices and letter not in later and a.sizes[letter] == 1 and other.sizes[letter] != 1
    ]
    if not alone:
        return a
    name = emit.squeeze(a.name, [a.indices.index(letter) for letter in alone])
    return Operand(name, "".join(item for item in a.indices if item not in alone), a.sizes)


def _summed(emit: Emit, a: Operand, kept: set[str]) -> Operand:
    """`a` with the indices that nothing needs summed away."""
    gone = [place for place, letter in enumerate(a.indices) if letter not in kept]
    if not gone:
        return a
    name = emit.reduce("ReduceSum", a.name, gone, keep=False)
    return Operand(name, "".join(item for item in a.indices if item in kept), a.sizes)


def _in_order(emit: Emit, a: Operand, letters: list[str]) -> str:
    return emit.transpose(a.name, [a.indices.index(letter) for letter in letters])


class _Shape:
    """Reshapes for two operands, by sizes that are known, or read while running."""

    def __init__(self, emit: Emit, a: Operand, b: Operand) -> None:
        self.emit = emit
        self.operands = (a, b)

    def _known(self, letters: list[str]) -> int | None:
        """Product of the sizes, None where one is unknown."""
        sizes = [self._size(letter) for letter in letters]
        numbers = [size for size in sizes if isinstance(size, int)]
        return int(np.prod(numbers, dtype=np.int64)) if len(numbers) == len(sizes) else None

    def _size(self, letter: str) -> Axis:
        found = [operand.sizes[letter] for operand in self.operands if letter in operand.indices]
        return next((size for size in found if isinstance(size, int) and size != 1), found[0])

    def merged(self, x: str, groups: list[list[str]], letters: list[str]) -> str:
        """`x`, whose axes are `letters`, with the axes of each group made one (of size 1 for an empty group)."""
        if all(len(group) == 1 for group in groups):
            return x
        parts: list[int | list[str]] = []
        for place, group in enumerate(groups):
            in_place = len(group) == 1 and place < len(letters) and letters[place] == group[0]
            in_place = in_place and all(len(item) == 1 for item in groups[:place])
            known = self._known(group)
            parts.append(0 if in_place else known if known is not None else list(group))
        return self._reshape(x, parts)

    def split(self, x: str, kept: list[str], letters: list[str]) -> str:
        """`x`, whose leading axes are `kept`, with what follows taken apart into `letters`."""
        parts: list[int | list[str]] = [0] * len(kept)
        for letter in letters:
            known = self._known([letter])
            parts.append(known if known is not None else [letter])
        return self._reshape(x, parts)

    def _reshape(self, x: str, parts: list[int | list[str]]) -> str:
        """Reshape where a list of letters stands for a size that is known only while running."""
        unknown = [place for place, part in enumerate(parts) if isinstance(part, list)]
        if unknown:
            parts[unknown[0]] = -1
        if len(unknown) < 2:
            return self.emit.op("Reshape", x, self.emit.ints(*(part for part in parts if isinstance(part, int))))
        pieces = [self.emit.ints(part) if isinstance(part, int) else self._read(part) for part in parts]
        return self.emit.op("Reshape", x, self.emit.op("Concat", *pieces, axis=0))

    def _read(self, letters: list[str]) -> str:
        """The product of sizes, those that are unknown read from the operands, as a list of one number."""
        open_ones = [letter for letter in letters if self._known([letter]) is None]
        known = self._known([letter for letter in letters if letter not in open_ones])
        found = [self.emit.ints(known)] if known is not None and known != 1 else []
        for letter in open_ones:
            operand = next(item for item in self.operands if letter in item.indices and item.sizes[letter] != 1)
            place = self.emit.ints(operand.indices.index(letter))
            found.append(self.emit.op("Gather", self.emit.op("Shape", operand.name), place, axis=0))
        product = found[0]
        for size in found[1:]:
            product = self.emit.op("Mul", product, size)
        return product
