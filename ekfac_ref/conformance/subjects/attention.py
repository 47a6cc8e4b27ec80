"""Whether the projections of query, key and value in torch's attention are three layers or one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from ekfac_ref.conformance.truth.observation import Observation, Observations
from ekfac_ref.model.layers import Layer
from ekfac_ref.model.layers_of import in_projections, layers_of
from ekfac_ref.question.problem import Problem


@dataclass(frozen=True)
class Unpacked:
    """Three layers, ``"attention.q_proj"``, ``"attention.k_proj"`` and ``"attention.v_proj"``.

    ``hint`` is what to add to a message where layers of other names were answered.
    """

    hint = "; where query, key and value are one layer, declare Definition(attention=Packed())"

    def seen(self, problem: Problem, seen: Observations) -> Observations:
        """What each layer saw, of what those three saw."""
        return seen


@dataclass(frozen=True)
class Packed:
    """One layer ``"attention.in_proj"``, [3 d, d_in]: the rows of query, then key, then value.

    A is that of their one input, g_nct = [g_q; g_k; g_v] and G_nc likewise: B, F and E couple the
    three. In cross-attention the inputs differ, and rows that have different inputs have no one A.
    There the three stay apart, even if two of them share an input; and so they do where some of
    them are not asked about, or where they are Parameters of their own.
    """

    hint = (
        "; Packed() is declared: query, key and value are one layer in_proj, the rows in this "
        "order, where all three are asked about and have the same input, and else three layers"
    )

    def seen(self, problem: Problem, seen: Observations) -> Observations:
        """What each layer saw, of what those three saw."""
        found = dict(seen)
        for names, whole in in_projections(layers_of(problem)).items():
            three = [seen[name][0] for name in names if name in seen]
            if len(three) == 3 and _have_one_input(three):
                found = {name: of for name, of in found.items() if name not in names}
                found[whole.name] = [_stacked(three)]
        return found


def packed(layers: Sequence[Layer], wanted: Callable[[str], bool]) -> list[Layer]:
    """The layers, with query, key and value of an attention as one where its name is wanted."""
    found = [*layers]
    for names, whole in in_projections(layers).items():
        if wanted(whole.name):
            found = [one for one in found if one.name not in names] + [whole]
    return found


def _have_one_input(three: list[Observation]) -> bool:
    return all(
        torch.equal(x, y) for one in three[1:] for x, y in zip(three[0].a, one.a, strict=True)
    )


def _stacked(three: list[Observation]) -> Observation:
    """What the rows of all three saw."""
    g, G, sizes = (
        zip(*(getattr(one, name) for one in three), strict=True) for name in ("g", "G", "size_g")
    )
    return replace(
        three[0],
        g=[torch.cat(of_sample, 2) for of_sample in g],
        G=[torch.cat(of_sample, 1) for of_sample in G],
        size_g=[torch.stack(of_sample).norm(dim=0) for of_sample in sizes],
    )
