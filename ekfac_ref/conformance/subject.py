"""The implementation on trial: anything that answers ``ekfac(problem)`` with {layer: operator}."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from ekfac_ref.columns import Empirical, Exact
from ekfac_ref.errors import ProblemError
from ekfac_ref.likelihoods import Bernoulli, Categorical, Gaussian, Poisson
from ekfac_ref.problem import Problem
from ekfac_ref.sharing import Expand, Reduce

Answer = Mapping[str, Any]
Ask = Callable[[Problem], Answer]


@dataclass(frozen=True)
class Abilities:
    """What a subject says that it can do; it is asked about that and nothing else.

    Whatever is not among these it must refuse with an exception, never answer in silence.

    Attributes:
        layers: module types whose blocks it returns; where a network has others, they are named
            out of the problem.
        likelihoods: classes of likelihoods.
        fishers: classes of Fishers. A sampled Fisher given its labels is an empirical one, and is
            asked about as such.
        sharings: classes of position sharing.
        dtypes: of model and data.
        shared_weights: a module called twice, a Parameter tied across modules.
        masks: problems with a position mask.
        positions: weights that are used at more than one position of a sample.
        bias: layers with a bias.
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


@dataclass(frozen=True)
class Subject:
    """An implementation on trial.

    An operator answers at least ``matvec(V)`` for V shaped like [W | b]. What else it has decides
    which further laws are asked: ``solve(V, damping=)``; ``Q_B``, ``Q_A`` and ``eigenvalues``.

    Attributes:
        name: how reports call it.
        ekfac: the EKFAC of a problem, {layer: operator}, the unit likelihood's and with 1/N
            (``notation.py``). Names are those of ``named_modules()``.
        kfac: the same for KFAC, if there is one.
        exact_fisher: the same for the exact blocks, if there is one.
        abilities: which problems may be drawn.
    """

    name: str
    ekfac: Ask
    kfac: Ask | None = None
    exact_fisher: Ask | None = None
    abilities: Abilities = field(default_factory=Abilities)

    def wrapped(self, wrap: Callable[[Ask], Ask]) -> "Subject":
        """The same subject with something around every way to ask it."""
        return replace(
            self,
            ekfac=wrap(self.ekfac),
            kfac=self.kfac and wrap(self.kfac),
            exact_fisher=self.exact_fisher and wrap(self.exact_fisher),
        )


def subject(thing: Any, name: str) -> Subject:
    """A function of a problem, an object with methods of the names above, or a Subject as it is."""
    if isinstance(thing, Subject):
        return thing
    if callable(thing) and not hasattr(thing, "ekfac"):
        return Subject(name, thing, abilities=getattr(thing, "abilities", Abilities()))
    if not callable(getattr(thing, "ekfac", None)):
        raise ProblemError(
            f"subject {name!r}: a {type(thing).__name__} cannot be asked for anything; give a "
            "function from a Problem to {layer: operator}, or an object with such a method ekfac."
        )
    return Subject(
        name,
        thing.ekfac,
        getattr(thing, "kfac", None),
        getattr(thing, "exact_fisher", None),
        getattr(thing, "abilities", Abilities()),
    )


def load(path: str) -> Subject:
    """The subject at ``package.module:name``."""
    module, _, attribute = path.partition(":")
    if not module or not attribute:
        raise ProblemError(
            f"subject {path!r}: no module and name in it; write it as package.module:name."
        )
    try:
        found = importlib.import_module(module)
    except Exception as error:
        raise ProblemError(
            f"subject {path!r}: {module} cannot be imported ({type(error).__name__}: {error}); "
            "run from the folder that holds it, or install it."
        ) from error
    if not hasattr(found, attribute):
        raise ProblemError(
            f"subject {path!r}: {module} has no {attribute!r}; choose among "
            f"{[n for n in vars(found) if not n.startswith('_')]}."
        )
    return subject(getattr(found, attribute), path)
