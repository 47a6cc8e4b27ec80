"""The matrix of an operator, column by column from its products with unit vectors.

``matvec`` is the only method that every subject has.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ekfac_ref.conformance.subjects.definition import Block, Definition
from ekfac_ref.matrix.operators import Dense


class BadAnswer(Exception):  # it is the subject's mistake, and no law's business
    """An answer that no law can be asked of: what is wrong with it, and what was expected."""


class Unread(BadAnswer):
    """Raised by the kit's own adapter, never by a subject, which has answered by then.

    Where an exception was due instead of an answer, this is none.
    """


@runtime_checkable
class Placement(Protocol):
    """Where a block stands in a layer's [d_out, d_in]; a ``Block`` is one."""

    @property
    def rows(self) -> slice: ...
    @property
    def columns(self) -> slice: ...
    def of(self, V: Tensor) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class OneBlock:
    """One block of an operator that acts on the whole layer: its product with V among zeros.

    Attributes:
        operator: of the layer, on [d_out, d_in].
        block: which part of that.
        shape: [d_out, d_in] of the layer.
    """

    operator: Any
    block: Placement
    shape: tuple[int, int]

    def matvec(self, V: Tensor) -> Tensor:
        """The block's part of the operator's product with V, zeros everywhere else."""
        return self._asked(self.operator.matvec, V)

    def _asked(self, ask: Callable[[Tensor], Tensor], V: Tensor) -> Tensor:
        whole = V.new_zeros(self.shape)
        self.block.of(whole).copy_(V)
        answer = ask(whole)
        V.copy_(self.block.of(whole))  # as it would be if the operator had got V itself
        return self.block.of(answer)


class OneSolvedBlock(OneBlock):
    """One block of an operator that solves, too."""

    def solve(self, V: Tensor, *, damping: float) -> Tensor:
        """The block's part of the operator's solution for V, zeros everywhere else."""
        return self._asked(partial(self.operator.solve, damping=damping), V)


def as_expected(
    answer: Mapping[str, Any], method: str, names: Collection[str], definition: Definition
) -> Mapping[str, Any]:
    """The answer, if it has the layers of these names and no others; or BadAnswer."""
    given = set(answer) if hasattr(answer, "keys") else None
    if given == set(names):
        return answer
    got = type(answer).__name__ if given is None else _few(answer)
    packed = any(str(name).endswith("in_proj") for name in {*names, *(given or ())})
    hint = definition.attention.hint if packed else ""
    if given and given < set(names):
        hint += (
            f"; it lacks {_few(set(names) - given)}: to be asked about fewer, pose a problem with "
            "others in layers=..., and declare Abilities(layers=...) for drawn ones"
        )
    raise BadAnswer(f"{method} returned {got}, expected a dict of {_few(names)}{hint}")


def _few(names: Collection[Any]) -> str:
    """Names in order, or the first of them where they are many."""
    first = sorted(names, key=str)
    return f"{first}" if len(first) <= 8 else f"{first[:3]} and {len(first) - 3} more"


def own_blocks(operator: Any, blocks: Sequence[Placement]) -> list[Any]:
    """The operator of every block: its own, where it has so many, or else itself from within."""
    own = getattr(operator, "blocks", (operator,))
    if len(own) == len(blocks):
        return list(own)
    kind = OneSolvedBlock if hasattr(operator, "solve") else OneBlock
    return [kind(operator, block, extent(blocks)) for block in blocks]


def matrices_of_blocks(layer: str, operator: Any, blocks: list[Block]) -> list[Dense]:
    """The matrix of every block, from the products with all unit vectors of the layer."""
    shape = extent(blocks)
    matrix = matrix_by_products(layer, operator.matvec, shape, blocks[0].seen.algebra)
    if len(blocks) == 1:
        return [Dense(matrix, blocks[0].seen.shape)]
    parts = [matrix[of][:, of] for of in entries(blocks)]
    inside = torch.zeros_like(matrix)
    for of, part in zip(entries(blocks), parts, strict=True):
        inside[of[:, None], of] = part
    if not torch.equal(inside, matrix):
        raise BadAnswer(_coupled(layer, matrix - inside, blocks))
    return [Dense(part, block.seen.shape) for part, block in zip(parts, blocks, strict=True)]


def extent(blocks: Sequence[Placement]) -> tuple[int, int]:
    """[d_out, d_in] of all blocks of a layer together."""
    return max(block.rows.stop for block in blocks), max(block.columns.stop for block in blocks)


def entries(blocks: Sequence[Placement]) -> list[Tensor]:
    """For every block the numbers of its entries in vec of the layer, rows stacked."""
    d_out, d_in = extent(blocks)
    numbers = torch.arange(d_out * d_in).reshape(d_out, d_in)
    return [block.of(numbers).reshape(-1) for block in blocks]


def matrix_by_products(
    layer: str, matvec: Callable[[Tensor], Any], shape: tuple[int, int], dtype: torch.dtype
) -> Tensor:
    """Column by column: what ``matvec`` makes of every unit vector, checked, in float64."""
    P = shape[0] * shape[1]
    units = torch.eye(P, dtype=dtype).reshape(-1, *shape)
    columns = torch.empty(P, *shape, dtype=torch.float64)
    for V, column in zip(units, columns, strict=True):
        # Written down at once: what the next product does to this one is a law of its own.
        column.copy_(shaped(layer, "matvec", matvec(V.clone()), "for V of", shape))
    return finite(layer, "matvec", columns.reshape(P, P).T.contiguous())


def checked(layer: str, method: str, found: Any, given: str, shape: tuple[int, int]) -> Tensor:
    """Real numbers, shaped like what the method was given."""
    return finite(layer, method, shaped(layer, method, found, given, shape))


def shaped(layer: str, method: str, found: Any, given: str, shape: tuple[int, int]) -> Tensor:
    """Floating-point numbers, shaped like what the method was given."""
    if isinstance(found, Tensor) and tuple(found.shape) != shape:
        raise BadAnswer(
            f"layer {layer!r}: {method} returned shape {list(found.shape)} {given} "
            f"{list(shape)} = [d_out, d_in], the bias among the inputs"
        )
    return _of_floats(layer, method, found)


def real(layer: str, what: str, found: Any) -> Tensor:
    """A tensor of real numbers where the kit's own are, without NaN; detached, not copied."""
    return finite(layer, what, _of_floats(layer, what, found))


def finite(layer: str, what: str, found: Tensor) -> Tensor:
    """The tensor, if there is no NaN and no infinity in it."""
    if not bool(torch.isfinite(found).all()):
        raise BadAnswer(f"layer {layer!r}: {what} returned NaN or infinity")
    return found


def _of_floats(layer: str, what: str, found: Any) -> Tensor:
    if not isinstance(found, Tensor):
        raise BadAnswer(f"layer {layer!r}: {what} returned a {type(found).__name__}, not a tensor")
    if not found.dtype.is_floating_point or found.layout is not torch.strided:
        kind = found.dtype if found.layout is torch.strided else found.layout
        raise BadAnswer(
            f"layer {layer!r}: {what} returned numbers of {kind}, expected a dense tensor of "
            "floating-point numbers"
        )
    if found.device.type != "cpu":
        raise BadAnswer(
            f"layer {layer!r}: {what} returned a tensor on {found.device}, expected the device of "
            "what it was given: cpu"
        )
    return found.detach()


def _coupled(layer: str, between: Tensor, blocks: list[Block]) -> str:
    """Which blocks should not be: groups, or the weight and the bias of one."""
    d_out, d_in = extent(blocks)
    rows = blocks[0].rows
    group = torch.arange(d_out * d_in) // ((rows.stop - rows.start) * d_in)
    if between[group[:, None] != group].any():
        return f"layer {layer!r}: its groups are coupled; every group is a block of its own"
    return (
        f"layer {layer!r}: its weight and its bias are coupled, but Separate() is declared, which "
        "makes each a block of its own"
    )
