r"""The raw material of every verdict: a, g and G of one layer (one group), sample by sample.

Taken in float64 from a float64 copy of the problem, whatever dtype the subject computes in, and
kept as lists over samples, because T and C may differ between them. The a and g come by ``taps``
and the G by plain autograd of every <f_n, s_nc>, two ways that share nothing but the model.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import vmap

from ekfac_ref.conformance.problems.changed import in_dtype, jittered, on_data_in, recut
from ekfac_ref.conformance.truth.output_sizes import output_sizes
from ekfac_ref.conformance.truth.record import Known, Record, record
from ekfac_ref.conformance.truth.room import check_outputs_written_down
from ekfac_ref.model.batched.pull_back import pull_back
from ekfac_ref.model.copies.deep_copy import deep_copy
from ekfac_ref.model.copies.dtypes import model_in
from ekfac_ref.model.forms import Learned
from ekfac_ref.model.forward import algebra_dtype, call
from ekfac_ref.model.random_state import undisturbed
from ekfac_ref.model.session import Session, open_session
from ekfac_ref.question.batches import Batch
from ekfac_ref.question.problem import Problem
from ekfac_ref.question.sharing import Sharing

# Roundings of a and g that summed lengths cover; a network that amplifies more counts as large.
COVERED = 2

_TOGETHER = 8  # samples, of each of which autograd goes through all


@dataclass(frozen=True, eq=False)
class Observation:
    """What one layer (group) saw of every sample n, in float64.

    Attributes:
        a: [T_n, d_in] each, inputs with the homogeneous 1 last.
        g: [C_n, T_n, d_out] each, output gradients of <f_n, s_nc>; no factor of N.
        counted: [T_n] each, which positions count.
        G: [C_n, d_out, d_in] each, gradients with respect to [W | b]; no factor of N.
        sharing: the problem's.
        dtype: of the model and the data that the subject gets.
        batch: number of the batch that each sample came in. Nothing correct depends on it.
        rounding_a: [T_n] each, how far rounding moves a, in units of roundoff: the norm of what a
            replay makes of it less a, over the replay's roundoff; the largest of several. A network
            can amplify rounding at will, and this is by how much this one does.
        size_g: [T_n] each, bounds |g_nt| over all columns and the terms that it is made of, which
            may be far larger where they cancel (``output_sizes.py``), and how far rounding moves g.
        runs: positions come in so many runs of equal length, and Reduce averages the inputs of each
            on its own: the groups of a layer with one A for all (``definition.py``).
        blur: how many roundings count as one, where a matrix is known by way of its inverse alone.
    """

    a: list[Float[Tensor, "_T d_in"]]
    g: list[Float[Tensor, "_C _T d_out"]]
    counted: list[Bool[Tensor, " _T"]]
    G: list[Float[Tensor, "_C d_out d_in"]]
    sharing: Sharing
    dtype: torch.dtype
    batch: list[int]
    rounding_a: list[Float[Tensor, " _T"]]
    size_g: list[Float[Tensor, " _T"]]
    runs: int = 1
    blur: float = 1.0

    @property
    def algebra(self) -> torch.dtype:
        """Of the subject's matrices, and of what they are multiplied with."""
        return algebra_dtype(self.dtype)

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in) of the layer (group)."""
        d_out, d_in = self.G[0].shape[1:]
        return d_out, d_in


Observations = dict[str, list[Observation]]


class ExactModel:
    """The float64 copy of a problem's model, and what is known of it on the problem's inputs.

    For one observation or for several, of this model on these inputs. What is asked about them,
    labels and columns, may differ.
    """

    def __init__(self, problem: Problem) -> None:
        self.model = model_in(deep_copy(problem.model), torch.float64)
        self.exactly, self.single, self.alone = Learned(), Learned(), Learned()
        # A sample alone is read in one way only, in whatever dtype: nothing is left to find out.
        self.alone.forms, self.alone.used = self.exactly.forms, self.exactly.used


def observe(
    problem: Problem, rounding: bool = True, opened: ExactModel | None = None
) -> Observations:
    """{layer: one Observation per group}.

    Args:
        problem: of the model in any dtype; what is observed is its float64 copy.
        rounding: whether to find out how far rounding moves a and g, and to take G by a way of its
            own. Mutants and the diagnosis, who judge nobody, do without; that is most of the work.
        opened: what others have found out about the same model on the same inputs.
    """
    with undisturbed(problem.batches):
        opened = opened or ExactModel(problem)
        exact = on_data_in(problem, opened.model, torch.float64)
        records = record(exact, Session if rounding else Known, opened.exactly)
        if not rounding:
            return {
                name: [taken_as_exact(one, problem.sharing, problem.dtype) for one in groups]
                for name, groups in records.items()
            }
        G = _gradients(exact, opened.exactly)
        roundoff = torch.finfo(problem.dtype).eps
        terms = record(exact, partial(_Terms, roundoff), opened.exactly)
        # Jittered, since what cancels to the bit may not do so in another's arithmetic. In another
        # order of summation too: where ReLU's kink is near, that can move g altogether.
        single = jittered(in_dtype(problem, torch.float32), 0)
        replays = [
            (record(single, Known, opened.single), torch.finfo(torch.float32).eps),
            (record(recut(problem), Known, opened.alone), roundoff),
        ]
    return {
        name: [
            replace(
                taken_as_exact(one, problem.sharing, problem.dtype),
                G=G[name][k],
                rounding_a=_farthest(one.a, [(moved[name][k].a, unit) for moved, unit in replays]),
                size_g=_largest(
                    _sizes(one.g),
                    _sizes(terms[name][k].g),
                    _moved(one.g, [(moved[name][k].g, unit) for moved, unit in replays]),
                ),
            )
            for k, one in enumerate(groups)
        ]
        for name, groups in records.items()
    }


def taken_as_exact(record: Record, sharing: Sharing, dtype: torch.dtype) -> Observation:
    """The observation with G_nc = sum_t g_nct a_nt^T, as if rounding moved nothing."""
    a, g = [a.double() for a in record.a], [g.double() for g in record.g]
    G = [torch.einsum("cto,ti->coi", g_n, a_n) for a_n, g_n in zip(a, g, strict=True)]
    none_a = [a_n.new_zeros(a_n.shape[:1]) for a_n in a]
    return Observation(a, g, record.counted, G, sharing, dtype, record.batch, none_a, _sizes(g))


def _gradients(problem: Problem, learned: Learned) -> dict[str, list[list[Tensor]]]:
    """{layer: for every group the G_n of all samples}, each <f_n, s_nc> by plain autograd."""
    session = open_session(problem, Known, learned=learned)
    values = dict(session.model.named_parameters())
    leaves = {name: values[name] for layer in session.layers for name in layer.parameters}
    found = {layer.name: [list[Tensor]() for _ in range(layer.groups)] for layer in session.layers}
    for batch, _ in session.batches():
        for few in batch.chunks(1, _TOGETHER):
            with torch.enable_grad():
                f = call(session.model, few.inputs)
            S = session.columns(f.detach(), few)
            apart = S.new_zeros(few.size, *S.shape)  # of every n and c, the rest being zero
            apart[range(few.size), range(few.size)] = S
            pulled = pull_back(f, [*leaves.values()], apart.flatten(1, 2))
            G = {n: g.unflatten(0, S.shape[:2]) for n, g in zip(leaves, pulled, strict=True)}
            for layer in session.layers:
                by_group = vmap(vmap(layer.to_matrix))(G).chunk(layer.groups, 2)
                for k, of_group in enumerate(by_group):
                    found[layer.name][k] += of_group.unbind(0)
    return found


class _Terms(Known):
    """Its columns are the terms of every output's Fisher: for each output one, of their size.

    ``roundoff`` is the subject's, the others are those of a session.
    """

    def __init__(self, roundoff: float, *others: Any) -> None:
        super().__init__(*others)
        self._roundoff = roundoff

    def columns(self, f: Tensor, batch: Batch) -> Tensor:
        """[N, K, *out], one for each of the K outputs."""
        S = super().columns(f, batch)
        sizes = output_sizes(self.problem, f, batch.targets, S, self._roundoff).flatten(1)
        check_outputs_written_down(*sizes.shape)
        return torch.diag_embed(sizes).reshape(len(f), -1, *f.shape[1:])


def _sizes(g: list[Tensor]) -> list[Tensor]:
    """Over all columns together, sample by sample and position by position."""
    return [g_n.norm(dim=(0, 2)) for g_n in g]


def _moved(exact: list[Tensor], replays: list[tuple[list[Tensor], float]]) -> list[Tensor]:
    """The size of what rounding moves by so much."""
    return [moved.norm(dim=0) / COVERED for moved in _farthest(exact, replays)]


def _largest(*sizes: list[Tensor]) -> list[Tensor]:
    return [torch.stack(of_sample).amax(0) for of_sample in zip(*sizes, strict=True)]


def _farthest(exact: list[Tensor], replays: list[tuple[list[Tensor], float]]) -> list[Tensor]:
    """Sample by sample, the largest over replays of the distance in units of roundoff."""
    moved = [
        [(x - y.double()).norm(dim=-1) / unit for x, y in zip(exact, replay, strict=True)]
        for replay, unit in replays
    ]
    return [torch.stack(of_sample).amax(0) for of_sample in zip(*moved, strict=True)]
