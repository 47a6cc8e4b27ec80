"""The wrong thing sent backward: labels and likelihoods."""

from collections.abc import Callable

import torch
from torch import Tensor

import ekfac_ref as ek
from tests.kit.remade.hooked import Recipe, columns

TINY = 1e-30  # where nothing is divided by nothing
ALL = (ek.Gaussian, ek.Categorical, ek.Bernoulli, ek.Poisson)
CLASSES, YES_OR_NO = (ek.Categorical,), (ek.Bernoulli,)
Wrong = Callable[[ek.Likelihood, Tensor, Tensor], Tensor]


def sending(wrong: Wrong, likelihoods: tuple[type, ...], *fishers: type) -> Recipe:
    """Other columns under these likelihoods and Fishers."""

    def made(likelihood: ek.Likelihood, fisher: ek.Exact, f: Tensor, y: Tensor) -> Tensor:
        mine = isinstance(likelihood, likelihoods) and isinstance(fisher, fishers)
        return wrong(likelihood, f, y) if mine else columns(likelihood, fisher, f, y)

    return Recipe(columns=made)


def classes_last(likelihood: ek.Categorical, f: Tensor) -> Tensor:
    """[N, T, K]"""
    f = f.movedim(likelihood.class_axis, -1)
    return f if f.dim() == 3 else f[:, None]


def like_outputs(likelihood: ek.Categorical, f: Tensor, S: Tensor) -> Tensor:
    """[N, C, T, K] to [N, C, *out]"""
    if f.dim() == 2:
        return S[:, :, 0]
    return S.transpose(2, 3) if likelihood.class_axis == 1 else S


def per_class(root: Callable[[Tensor, Tensor], Tensor], axis: int = -1) -> Wrong:
    """One column for every position and class: row j of ``root`` of p and the identity."""

    def wrong(likelihood: ek.Categorical, f: Tensor, y: Tensor) -> Tensor:
        p = classes_last(likelihood, f).softmax(axis)
        N, T, K = p.shape
        rows = root(p, torch.eye(K).to(p)) * likelihood.counted(y).reshape(N, T, 1, 1)
        S = p.new_zeros(N, T, K, T, K)
        for t in range(T):
            S[:, t, :, t] = rows[:, t]
        return like_outputs(likelihood, f, S.reshape(N, T * K, T, K))

    return wrong


def per_output(root: Callable[[Tensor], Tensor]) -> Wrong:
    """One column for every output, zero elsewhere."""

    def wrong(likelihood: ek.Likelihood, f: Tensor, y: Tensor) -> Tensor:
        return root(f).flatten(1).diag_embed().reshape(len(f), -1, *f.shape[1:])

    return wrong


def column_(x: Tensor) -> Tensor:
    return x[..., :, None]


def row_(x: Tensor) -> Tensor:
    return x[..., None, :]


def score(likelihood: ek.Likelihood, f: Tensor, y: Tensor) -> Tensor:
    return likelihood.score(f, y)[:, None]


def most_likely(likelihood: ek.Likelihood, f: Tensor, y: Tensor) -> Tensor:
    if isinstance(likelihood, ek.Bernoulli):
        return score(likelihood, f, (f > 0).to(f))
    best = f.argmax(likelihood.class_axis)
    return score(likelihood, f, torch.where(likelihood.counted(y), best, y))


def class_by_class(likelihood: ek.Categorical, f: Tensor, y: Tensor) -> Tensor:
    """All positions at once."""
    p = classes_last(likelihood, f).softmax(-1)
    eye = torch.eye(p.shape[-1]).to(p)
    S = column_(p.sqrt()) * (eye - row_(p)) * likelihood.counted(y).reshape(*p.shape[:2], 1, 1)
    return like_outputs(likelihood, f, S.transpose(1, 2))


def scores_over_positions(likelihood: ek.Categorical, f: Tensor, y: Tensor) -> Tensor:
    p, counted = classes_last(likelihood, f).softmax(1), likelihood.counted(y)
    onehot = torch.eye(p.shape[-1]).to(p)[y.where(counted, 0)].reshape(p.shape)
    S = (p - onehot) * counted.reshape(*p.shape[:2], 1)
    return like_outputs(likelihood, f, S[:, None])


def up_to_the_largest(likelihood: ek.Categorical, f: Tensor, y: Tensor) -> Tensor:
    """Scores of as many classes as a one-hot code of the labels has."""
    S, K = score(likelihood, f, y), int(y.max()) + 1
    S.select(1, 0).movedim(likelihood.class_axis, -1)[..., max(K, 0) :] = 0
    return S


def half_a_unit_vector(likelihood: ek.Likelihood, f: Tensor, y: Tensor) -> Tensor:
    r = (f - y).flatten(1)
    return (r / 2 / r.norm(dim=1, keepdim=True).clamp(min=TINY)).reshape(f.shape)[:, None]


def ignored_counted(likelihood: ek.Likelihood, fisher: ek.Exact, f: Tensor, y: Tensor) -> Tensor:
    has_classes = isinstance(likelihood, ek.Categorical)
    return columns(likelihood, fisher, f, y.clamp(min=0) if has_classes else y)


def over_positions(likelihood: ek.Likelihood, fisher: ek.Exact, f: Tensor, y: Tensor) -> Tensor:
    if not isinstance(likelihood, ek.Categorical):
        return columns(likelihood, fisher, f, y)
    if isinstance(fisher, ek.Empirical):
        return scores_over_positions(likelihood, f, y)
    return per_class(lambda p, eye: column_(p.sqrt()) * (eye - row_(p)), 1)(likelihood, f, y)


LABELS = {
    "empirical-for-exact": sending(score, ALL, ek.Exact),
    "exact-for-empirical": sending(lambda loss, f, y: loss.square_root(f, y), ALL, ek.Empirical),
    "most-likely-label": sending(most_likely, CLASSES + YES_OR_NO, ek.Exact),
    "labels-drawn-uniformly": sending(
        per_class(lambda p, eye: (eye - row_(p)) / len(eye) ** 0.5), CLASSES, ek.Exact
    ),
    "probabilities-not-rooted": sending(
        per_class(lambda p, eye: column_(p) * (eye - row_(p))), CLASSES, ek.Exact
    ),
    "probabilities-uncentred": sending(
        per_class(lambda p, eye: p.sqrt().diag_embed()), CLASSES, ek.Exact
    ),
    "root-transposed": sending(
        per_class(lambda p, eye: (column_(p.sqrt()) * (eye - row_(p))).mT), CLASSES, ek.Exact
    ),
    "classes-independent": sending(
        per_class(lambda p, eye: (p * (1 - p)).sqrt().diag_embed()), CLASSES, ek.Exact
    ),
    "softmax-for-sigmoid": sending(
        per_output(lambda f: (f.softmax(-1) * (1 - f.softmax(-1))).sqrt()), YES_OR_NO, ek.Exact
    ),
    "probability-for-variance": sending(
        per_output(lambda f: f.sigmoid().sqrt()), YES_OR_NO, ek.Exact
    ),
    "variance-not-rooted": sending(
        per_output(lambda f: f.sigmoid() * (1 - f.sigmoid())), YES_OR_NO, ek.Exact
    ),
    "rate-not-rooted": sending(per_output(torch.exp), (ek.Poisson,), ek.Exact),
    "positions-drawn-together": sending(class_by_class, CLASSES, ek.Exact),
    "labels-of-another-sample": sending(
        lambda loss, f, y: score(loss, f, y.roll(1, 0)), ALL, ek.Empirical
    ),
    "residual-not-squared": sending(half_a_unit_vector, (ek.Gaussian,), ek.Empirical),
    "classes-up-to-the-largest-label": sending(up_to_the_largest, CLASSES, ek.Empirical),
    "ignored-labels-counted": Recipe(columns=ignored_counted),
    "softmax-over-positions": Recipe(columns=over_positions),
}
