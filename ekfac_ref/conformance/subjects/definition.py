r"""Which EKFAC a subject computes, where the field has more than one definition of it.

The bias may be one more input of its layer, or a block of its own; the groups of a convolution may
have a factor A each, or one for all. Every choice is right, and they are different matrices. A
subject says which it is, and is then judged by the A, B and F of its own: exactly, like any other.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ekfac_ref.conformance.declared.damping import Damping, Factored, OnKFAC, Tikhonov
from ekfac_ref.conformance.declared.training import Training
from ekfac_ref.conformance.subjects.attention import Packed, Unpacked
from ekfac_ref.conformance.truth.observation import Observation, Observations
from ekfac_ref.errors import ProblemError
from ekfac_ref.model.layers_of import in_projections, layers_of
from ekfac_ref.question.problem import Problem

_Slices = dict[str, slice]


@dataclass(frozen=True, eq=False)
class Block:
    """A part of a layer's [d_out, d_in] that is coupled to no other, and what it saw.

    Attributes:
        name: of the part within its layer, "" where it is all of it.
        rows, columns: where it stands in [W | b] of all groups.
        seen: with the inputs of these columns alone.
    """

    name: str
    rows: slice
    columns: slice
    seen: Observation

    def of(self, V: Tensor) -> Tensor:
        """Its part of V, [d_out, d_in], as a view."""
        return V[self.rows, self.columns]


def titles(name: str, blocks: list[Block]) -> list[str]:
    """The names of a layer's blocks."""
    return [", ".join(filter(None, (name, block.name))) for block in blocks]


@dataclass(frozen=True)
class Joint:
    """[W | b] is one matrix: the bias is the weight of one more input, which is 1."""

    def columns(self, problem: Problem, layer: str, d_in: int) -> _Slices:
        """{name of every block: which columns of [W | b] it has}."""
        return {"": slice(0, d_in)}

    def differs(self, problem: Problem, layer: str) -> bool:
        """Whether the layer has other blocks than by default."""
        return False


@dataclass(frozen=True)
class Separate:
    r"""W and b are blocks of their own, and what couples them is left out.

    W has the inputs a without the 1, b has the 1 as its only input; each has its own A, B and F.
    B is the same for both. A of b is [[1]], or less where the weight is also used without the
    bias: such a use has a 0 in place of the 1. KFAC on W is that of ``Joint``; EKFAC is not.
    """

    def columns(self, problem: Problem, layer: str, d_in: int) -> _Slices:
        """{name of every block: which columns of [W | b] it has}."""
        if not self.differs(problem, layer):
            return Joint().columns(problem, layer, d_in)
        return {"weight": slice(0, d_in - 1), "bias": slice(d_in - 1, d_in)}

    def differs(self, problem: Problem, layer: str) -> bool:
        """Whether the layer has other blocks than by default: whether it has a bias."""
        layers = layers_of(problem)
        every = (*layers, *in_projections(layers).values())
        return any(one.name == layer and one.bias is not None for one in every)


@dataclass(frozen=True)
class PerGroup:
    """A of a group is that of its own inputs."""

    def seen(self, groups: list[Observation]) -> list[Observation]:
        """What each group is taken to have seen."""
        return groups

    def differs(self, groups: int) -> bool:
        """Whether a layer with so many groups has other factors than by default."""
        return False


@dataclass(frozen=True)
class Shared:
    r"""One A for all groups of a convolution: the mean of the groups' A_k, [d_in, d_in] of a group.

    B_k, F_k and Lambda_k stay the group's own, E_k has the basis (Q_B_k, Q_A). So whatever a law
    says of A is said of the mean; trace, majorisation, kernel and the exact block say nothing of
    A. K_k = B_k (x) A is no more F_k for one sample: exactness needs F_k = B_k (x) A as it stands.
    The null space stays silent under expand, since A is a mean of positive semidefinite A_k:
    A u = 0 implies A_k u = 0 for every k, hence a^T u = 0 for the inputs of every group. Under
    reduce no comparison relies on that, not even with one position.

    A group sees the positions of the others as its own, without a gradient there. That is the mean
    under expand, where every row counts the same, and F_k and B_k are as before; under reduce each
    group's run of positions is averaged on its own (``Observation.runs``).
    """

    def seen(self, groups: list[Observation]) -> list[Observation]:
        """What each group is taken to have seen."""
        return [_among(groups, k) for k in range(len(groups))] if len(groups) > 1 else groups

    def differs(self, groups: int) -> bool:
        """Whether a layer with so many groups has other factors than by default."""
        return groups > 1


@dataclass(frozen=True)
class Definition:
    """The choices of one subject; they are independent of one another.

    Attributes:
        bias: ``Joint()`` or ``Separate()``.
        A: ``PerGroup()`` or ``Shared()``.
        damping: ``Tikhonov()``, ``OnKFAC()`` or ``Factored()``: what ``solve`` is of a KFAC block,
            and ``precondition`` of a subject that shows no EKFAC. EKFAC's is always Tikhonov's. An
            ``optimizer`` is one of EKFAC by ``Tikhonov()``, else of KFAC.
        training: the rules of an ``optimizer`` from batch to batch.
        attention: ``Unpacked()`` or ``Packed()``.
    """

    bias: Joint | Separate = field(default_factory=Joint)
    A: PerGroup | Shared = field(default_factory=PerGroup)
    damping: Damping = field(default_factory=Tikhonov)
    training: Training = field(default_factory=Training, repr=False)
    attention: Unpacked | Packed = field(default_factory=Unpacked, repr=False)

    def __post_init__(self) -> None:
        for name, value, kinds in (
            ("bias", self.bias, (Joint, Separate)),
            ("A", self.A, (PerGroup, Shared)),
            ("damping", self.damping, (Tikhonov, OnKFAC, Factored)),
            ("training", self.training, (Training,)),
            ("attention", self.attention, (Unpacked, Packed)),
        ):
            if not isinstance(value, kinds):
                choices = " or ".join(f"{kind.__name__}()" for kind in kinds)
                raise ProblemError(f"definition: {name} is {value!r}; pass {choices}.")

    def blocks(self, problem: Problem, seen: Observations) -> dict[str, list[Block]]:
        """Of every layer: group by group, the weight's before the bias's.

        ``seen`` is {layer: one Observation per group}, as ``observe`` has it.
        """
        of_layers = self.seen(problem, seen)
        return {layer: self._blocks(problem, layer, groups) for layer, groups in of_layers.items()}

    def seen(self, problem: Problem, seen: Observations) -> Observations:
        """``seen``, by the layers that this definition has; what is so already stays as it is."""
        return self.attention.seen(problem, seen)

    @property
    def has_other_matrices(self) -> bool:
        """Whether E, K or F of layers that are so by default may be other matrices."""
        return (self.bias, self.A) != (Joint(), PerGroup())

    def differs(self, problem: Problem, layer: str, groups: int) -> bool:
        """Whether E of the layer, if it is one of the definition's, is another than by default."""
        return self.bias.differs(problem, layer) or self.A.differs(groups)

    def _blocks(self, problem: Problem, layer: str, groups: list[Observation]) -> list[Block]:
        d_out, d_in = groups[0].shape
        columns = self.bias.columns(problem, layer, d_in)
        return [
            Block(
                ", ".join(filter(None, [f"group {k}" if len(groups) > 1 else "", part])),
                slice(k * d_out, (k + 1) * d_out),
                where,
                seen if len(columns) == 1 else _of_inputs(seen, where),
            )
            for k, seen in enumerate(self.A.seen(groups))
            for part, where in columns.items()
        ]


def _of_inputs(seen: Observation, columns: slice) -> Observation:
    """As if the layer had these inputs only."""
    a, G = [a[:, columns] for a in seen.a], [G[:, :, columns] for G in seen.G]
    movable = columns.start == 0  # rounding moves the inputs of W, and no 1 of a bias
    return replace(seen, a=a, G=G, rounding_a=[moved * movable for moved in seen.rounding_a])


def _among(groups: list[Observation], k: int) -> Observation:
    """Group k, with the positions of the others next to its own."""

    def side_by_side(several: list[list[Tensor]]) -> list[Tensor]:
        return [torch.cat(of_sample) for of_sample in zip(*several, strict=True)]

    def only_here(x: Tensor, axis: int) -> Tensor:
        zeros = torch.zeros_like(x)
        return torch.cat([x if j == k else zeros for j in range(len(groups))], axis)

    return replace(
        groups[k],
        a=side_by_side([one.a for one in groups]),
        g=[only_here(g, 1) for g in groups[k].g],
        counted=side_by_side([one.counted for one in groups]),
        rounding_a=side_by_side([one.rounding_a for one in groups]),
        size_g=[only_here(size, 0) for size in groups[k].size_g],
        runs=len(groups),
    )
