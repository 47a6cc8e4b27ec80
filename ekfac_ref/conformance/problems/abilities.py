"""What may be drawn for a subject: layers, likelihoods, Fishers, dtypes that it says it can do."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import nn

from ekfac_ref.conformance.problems.features import FEATURES
from ekfac_ref.errors import ProblemError, no_such
from ekfac_ref.question.columns import Empirical, Exact
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Gaussian, Poisson
from ekfac_ref.question.problem import Problem
from ekfac_ref.question.sharing import Expand, Reduce

DTYPES = (torch.float64, torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class Abilities:
    """What a subject says that it can do, declared by its author. The defaults are everything.

    It is asked about that and nothing else. What it does not declare it must refuse with an
    exception, never answer in silence.

    Attributes:
        layers: module types whose blocks it returns; where a network has others, they are named
            out of the problem.
        likelihoods: classes of likelihoods.
        fishers: classes of Fishers. A sampled Fisher given its labels is an empirical one, and is
            asked about as such.
        sharings: classes of position sharing.
        dtypes: of model and data: float64, float32, or bfloat16, where matrices are float32.
        shared_weights: whether a module may be called twice, a Parameter tied across modules.
        masks: whether problems may have a position mask.
        positions: whether a weight may be used at more than one position of a sample.
        bias: whether layers may have a bias.
        declines: names of features (``problems/features.py``) that it refuses. Problems with them
            are drawn all the same: an exception is expected there, and an answer is judged.
    """

    layers: tuple[type[nn.Module], ...] = (
        *(nn.Linear, nn.Bilinear, nn.Embedding),
        *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
        *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    )
    likelihoods: tuple[type, ...] = (Gaussian, Categorical, Bernoulli, Poisson)
    fishers: tuple[type[Exact] | type[Empirical], ...] = (Exact, Empirical)
    sharings: tuple[type[Expand] | type[Reduce], ...] = (Expand, Reduce)
    dtypes: tuple[torch.dtype, ...] = (torch.float64, torch.float32)
    shared_weights: bool = True
    masks: bool = True
    positions: bool = True
    bias: bool = True
    declines: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.declines, str):
            raise ProblemError(f"abilities: declines is a text; write ({self.declines!r},).")
        for name in self.declines:
            if name not in FEATURES:
                raise no_such("abilities, declines", name, FEATURES)
        unknown = [dtype for dtype in self.dtypes if dtype not in DTYPES]
        if unknown or not self.dtypes:
            raise ProblemError(
                f"abilities: dtypes has {unknown or 'nothing'} in it, and problems are drawn in "
                f"{', '.join(map(str, DTYPES))}; declare some of these."
            )

    def in_turn(self, turn: int) -> "Abilities":
        """Of Fishers and sharings one each, in an order that has soon had either of each."""
        round_, which = divmod(turn, len(self.fishers))
        sharing = self.sharings[(which + round_) % len(self.sharings)]
        return replace(self, fishers=(self.fishers[which],), sharings=(sharing,))

    def lacks(self, problem: Problem) -> str:
        """What such a problem has that is not declared, and what is; "" where nothing is missing.

        A field that is left as it is declares nothing of a likelihood of the user's own, say.
        """
        rows: list[tuple[str, object]] = [("likelihoods", problem.likelihood)]
        rows += [("fishers", problem.fisher), ("sharings", problem.sharing)]
        for name, value in rows:
            kinds = getattr(self, name)
            if not isinstance(value, kinds) and kinds != getattr(Abilities, name):
                return f"{value!r}, and abilities.{name} has {_listed(k.__name__ for k in kinds)}"
        if problem.dtype not in self.dtypes and self.dtypes != Abilities.dtypes:
            return f"{problem.dtype}, and abilities.dtypes has {_listed(map(str, self.dtypes))}"
        return ""

    def allows(self, feature: str) -> bool:
        """Whether a problem with this feature may be drawn."""
        choices = {kind.__name__: kind in self.likelihoods for kind in _LIKELIHOODS}
        choices |= {str(d).removeprefix("torch."): d in self.dtypes for d in DTYPES}
        choices |= {
            "exact Fisher": Exact in self.fishers,
            "empirical Fisher": Empirical in self.fishers,
            "expand": Expand in self.sharings,
            "reduce": Reduce in self.sharings,
            **dict.fromkeys(_MASKS, self.masks and self.positions),
            **dict.fromkeys(_SHARED, self.shared_weights),
            **dict.fromkeys(_TOKENS, self.positions),
            "outputs at positions": self.positions,
            "class axis": self.positions and Categorical in self.likelihoods,
            "ignored labels": Categorical in self.likelihoods,
        }
        kinds = FEATURES[feature].kinds
        can = not kinds or any(kind in self.layers for kind in kinds)
        return can and choices.get(feature, self.positions or "position" not in feature)


def _listed(names: Iterable[str]) -> str:
    return " and ".join(names) or "nothing"


_SHARED = (
    *("called twice", "tied weight", "one module, two names"),
    "weight used beside its module",
)
_TOKENS = ("tokens as samples", "tokens first", "self-attention", "MultiheadAttention")
_MASKS = ("mask", "mask in some batches")
_LIKELIHOODS = (Gaussian, Categorical, Bernoulli, Poisson)
