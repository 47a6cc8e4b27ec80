"""Mistakes in the columns S_n: labels, likelihoods, reductions of the loss."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ekfac_ref.columns import Empirical, Exact, Fisher, Sampled
from ekfac_ref.conformance.memory import remembered
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT
from ekfac_ref.conformance.observation import Observation
from ekfac_ref.conformance.subject import Ask
from ekfac_ref.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood, Poisson
from ekfac_ref.problem import Problem


@dataclass(frozen=True)
class _Asked:
    """What the columns of a batch are made from, and the right ones."""

    fisher: Fisher
    likelihood: Likelihood
    f: Tensor
    y: Tensor
    right: Tensor


Wrong = Callable[[_Asked], Tensor]


@dataclass(frozen=True)
class _WithColumns(Exact):
    """A Fisher with other columns."""

    own: Fisher
    wrong: Wrong

    def columns(self, likelihood: Likelihood, f: Tensor, y: Tensor, first: int) -> Tensor:
        right = self.own.columns(likelihood, f, y, first)
        return self.wrong(_Asked(self.own, likelihood, f, y, right))


def _columns(
    wrong: Wrong,
    likelihoods: tuple[type, ...] = (Gaussian, Categorical, Bernoulli, Poisson),
    fishers: tuple[type, ...] = (Exact, Empirical),
) -> Ask:
    """The correct algebra on wrong columns, on problems with one of these."""

    def look(problem: Problem) -> dict[str, list[Observation]]:
        if isinstance(problem.likelihood, likelihoods) and isinstance(problem.fisher, fishers):
            problem = replace(problem, fisher=_WithColumns(problem.fisher, wrong))
        return remembered(problem)

    return replace(CORRECT, look=look).ekfac


def _exact(wrong: Wrong, *likelihoods: type) -> Ask:
    return _columns(wrong, likelihoods, (Exact,))


def _mean_over(asked: _Asked, count: Tensor | float | int) -> Tensor:
    """Columns of a loss that is divided by a count: the exact ones are roots of its Hessian."""
    power = 0.5 if isinstance(asked.fisher, Exact) else 1.0
    scale = torch.as_tensor(count).to(asked.f) ** -power
    return asked.right * scale.reshape(-1, *[1] * (asked.right.dim() - 1))


def _positions_of(asked: _Asked) -> int:
    return max(1, asked.y[0].numel())


def _labels_of(asked: _Asked) -> Tensor:
    assert isinstance(asked.likelihood, Categorical)
    return asked.likelihood.counted(asked.y).reshape(len(asked.y), -1).sum(1).clamp(min=1)


def _classes_last(asked: _Asked, f: Tensor) -> Tensor:
    """[N, T, K]."""
    assert isinstance(asked.likelihood, Categorical)
    f = f.movedim(asked.likelihood.class_axis, -1)
    return f.reshape(len(f), -1, f.shape[-1])


def _as_outputs(asked: _Asked, S: Tensor) -> Tensor:
    """[N, C, T, K] to [N, C, *out]."""
    assert isinstance(asked.likelihood, Categorical)
    axis = asked.likelihood.class_axis
    positions = asked.f.movedim(axis, -1).shape[1:]
    S = S.reshape(*S.shape[:2], *positions)
    return S.movedim(-1, axis if axis < 0 else axis + 1)


def _root_columns(asked: _Asked, root: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """One column per position and class, from a root [.., column, entry] of p and the identity."""
    p = torch.softmax(_classes_last(asked, asked.f), -1)
    return _spread(asked, root(p[..., None, :], torch.eye(p.shape[-1]).to(p)))


def _spread(asked: _Asked, root: Tensor) -> Tensor:
    assert isinstance(asked.likelihood, Categorical)
    valid = asked.likelihood.counted(asked.y).reshape(*root.shape[:2], 1, 1)
    apart = torch.eye(root.shape[1]).to(root)
    S = torch.einsum("ntkj,ts->ntksj", root * valid, apart)
    return _as_outputs(asked, S.flatten(1, 2))


def _transposed(p: Tensor) -> Tensor:
    return p.transpose(-1, -2)


def _diagonal(root: Tensor) -> Tensor:
    flat = root.reshape(len(root), -1)
    return torch.diag_embed(flat).reshape(*flat.shape, *root.shape[1:])


def _at_most_likely(asked: _Asked) -> Tensor:
    if isinstance(asked.likelihood, Categorical):
        best = asked.f.argmax(asked.likelihood.class_axis)
        label = torch.where(asked.likelihood.counted(asked.y), best, asked.y)
    else:
        label = (asked.f > 0).to(asked.f)
    return asked.likelihood.score(asked.f, label)[:, None]


def _norm_of_residual(asked: _Asked) -> Tensor:
    """The gradient of |f - y| / 2."""
    rows = asked.right.flatten(1)
    size = rows.norm(dim=1).clamp(min=1e-12)
    return 0.5 * asked.right / size.reshape(-1, *[1] * (asked.right.dim() - 1))


def _none_ignored(asked: _Asked) -> Tensor:
    assert isinstance(asked.likelihood, Categorical)
    label = torch.where(asked.likelihood.counted(asked.y), asked.y, 0)
    return asked.fisher.columns(asked.likelihood, asked.f, label, 0)


def _along_positions(asked: _Asked) -> Tensor:
    """Softmax over the axis of positions."""
    assert isinstance(asked.likelihood, Categorical)
    logits = _classes_last(asked, asked.f)
    p = torch.softmax(logits, 1)
    if isinstance(asked.fisher, Exact):
        return _spread(
            asked, p.sqrt()[..., None] * (torch.eye(p.shape[-1]).to(p) - p[..., None, :])
        )
    valid = asked.likelihood.counted(asked.y).reshape(*p.shape[:2], 1)
    off = (p - torch.softmax(logits, -1)) * valid
    return asked.right + _as_outputs(asked, off[:, None])


def _of_other_outputs(change: Callable[[_Asked], Tensor]) -> Wrong:
    """The right columns of changed outputs."""

    def wrong(asked: _Asked) -> Tensor:
        return asked.fisher.columns(asked.likelihood, change(asked), asked.y, 0)

    return wrong


def _softmaxed(asked: _Asked) -> Tensor:
    assert isinstance(asked.likelihood, Categorical)
    return torch.softmax(asked.f, asked.likelihood.class_axis)


def _positions_at_once(asked: _Asked) -> Tensor:
    S = asked.right
    classes = _classes_last(asked, asked.f).shape[-1]
    return S.unflatten(1, (-1, classes)).sum(1)


def _mixed_up(asked: _Asked) -> Tensor:
    return Empirical().columns(asked.likelihood, asked.f, asked.y.roll(1, 0), 0)


LABELS = (
    Mutant(
        name="empirical-for-exact",
        mistake="uses the data's own labels for the exact Fisher (right: the model's distribution)",
        story="loss.backward() on the data is nearest at hand; Kunstner et al. 2019 (1905.12558) "
        "count how often the two are taken for one another.",
        ekfac=_exact(
            lambda asked: Empirical().columns(asked.likelihood, asked.f, asked.y, 0),
            *(Gaussian, Categorical, Bernoulli, Poisson),
        ),
        laws=("labels", "trace", "eigenvalues"),
        only="the exact Fisher",
    ),
    Mutant(
        name="exact-for-empirical",
        mistake="uses the model's distribution for the empirical Fisher (right: the data's labels)",
        story="An option that is read but never used, like backpack@c8ba1c6d.",
        ekfac=_columns(
            lambda asked: asked.likelihood.square_root(asked.f, asked.y), fishers=(Empirical,)
        ),
        laws=("trace", "eigenvalues"),
        only="the empirical Fisher",
    ),
    Mutant(
        name="most-likely-label",
        mistake="takes the most likely label for the exact Fisher (right: all, by probability)",
        story="argmax as a simplified sampling: Continual-Learning-Benchmark#7, "
        "overcoming-catastrophic#3.",
        ekfac=_exact(_at_most_likely, Categorical, Bernoulli),
        laws=("trace", "eigenvalues"),
        only="the exact Fisher of classes, two or more of them",
    ),
    Mutant(
        name="one-label-drawn",
        mistake="draws one label per sample for the exact Fisher (right: the expectation)",
        story="A Monte Carlo Fisher with one draw and a fixed seed, under the name of the exact "
        "one; it is right on average.",
        ekfac=_exact(
            lambda asked: Sampled(1, 0).columns(asked.likelihood, asked.f, asked.y, 0),
            *(Gaussian, Categorical, Bernoulli, Poisson),
        ),
        laws=("trace", "eigenvalues"),
        only="the exact Fisher",
    ),
    Mutant(
        name="labels-drawn-uniformly",
        mistake="gives every label the same weight (right: its probability)",
        story="A loop over classes that forgets to weigh.",
        ekfac=_exact(
            lambda asked: _root_columns(asked, lambda p, eye: (eye - p) / len(eye) ** 0.5),
            Categorical,
        ),
        laws=("trace", "eigenvalues"),
        only="the exact Fisher of classes, two or more of them",
    ),
    Mutant(
        name="probabilities-not-rooted",
        mistake="weighs column k by p_k (right: by its square root)",
        story="Columns are squared later on, which a loop over classes with weights p_k overlooks.",
        ekfac=_exact(
            lambda asked: _root_columns(asked, lambda p, eye: _transposed(p) * (eye - p)),
            Categorical,
        ),
        laws=("trace", "eigenvalues"),
        only="the exact Fisher of classes, two or more of them",
    ),
    Mutant(
        name="probabilities-uncentred",
        mistake="uses diag(p) for classes (right: diag(p) - p p^T)",
        story="The Hessian of cross-entropy without its second term: classes as counts.",
        ekfac=_exact(
            lambda asked: _root_columns(asked, lambda p, eye: p.sqrt() * eye), Categorical
        ),
        laws=("trace", "eigenvalues"),
        only="the exact Fisher of classes",
    ),
    Mutant(
        name="root-transposed",
        mistake="uses S^T for S = diag(sqrt p) - p sqrt(p)^T (right: its columns)",
        story="S is not symmetric, but close; the trace of S S^T does not tell them apart.",
        ekfac=_exact(
            lambda asked: _root_columns(asked, lambda p, eye: p.sqrt() * (eye - _transposed(p))),
            Categorical,
        ),
        laws=("eigenvalues", "moments"),
        only="the exact Fisher of classes, two or more of them",
    ),
    Mutant(
        name="classes-independent",
        mistake="uses diag(p (1 - p)) for classes (right: diag(p) - p p^T)",
        story="Classes as so many yes-or-no questions; the diagonal is right.",
        ekfac=_exact(
            lambda asked: _root_columns(asked, lambda p, eye: (p * (1 - p)).sqrt() * eye),
            Categorical,
        ),
        laws=("eigenvalues", "moments"),
        only="the exact Fisher of classes, two or more of them",
    ),
    Mutant(
        name="softmax-for-sigmoid",
        mistake="normalises independent yes-or-no outputs to sum to one (right: each by itself)",
        story="A head for several labels at once that is taken for a classifier.",
        ekfac=_exact(
            lambda asked: _diagonal((p := torch.softmax(asked.f, -1)).mul(1 - p).sqrt()), Bernoulli
        ),
        laws=("trace", "eigenvalues"),
        only="the exact Fisher of Bernoulli outputs",
    ),
    Mutant(
        name="probability-for-variance",
        mistake="uses p for the variance of a yes-or-no output (right: p (1 - p))",
        story="The rule for counts; close to the truth as long as p is small.",
        ekfac=_exact(lambda asked: _diagonal(torch.sigmoid(asked.f).sqrt()), Bernoulli),
        laws=("trace", "eigenvalues"),
        only="the exact Fisher of Bernoulli outputs",
    ),
    Mutant(
        name="variance-not-rooted",
        mistake="uses columns p (1 - p) e_k for yes-or-no outputs (right: their square root)",
        story="The variance where the standard deviation is due, so that it is squared.",
        ekfac=_exact(
            lambda asked: _diagonal(torch.sigmoid(asked.f) * torch.sigmoid(-asked.f)), Bernoulli
        ),
        laws=("trace", "eigenvalues"),
        only="the exact Fisher of Bernoulli outputs",
    ),
    Mutant(
        name="rate-not-rooted",
        mistake="uses columns exp(f_k) e_k for counts (right: exp(f_k / 2) e_k)",
        story="The variance where the standard deviation is due; no difference at rate one.",
        ekfac=_exact(lambda asked: _diagonal(torch.exp(asked.f)), Poisson),
        laws=("trace", "eigenvalues"),
        only="the exact Fisher of Poisson outputs",
    ),
    Mutant(
        name="positions-drawn-together",
        mistake="goes backward from all positions at once, class by class (right: labels at "
        "different positions are independent)",
        story="One pass per class instead of one per class and position, the difficulty that "
        "curvlinops#127 left open.",
        ekfac=_exact(_positions_at_once, Categorical),
        laws=("trace", "eigenvalues"),
        only="the exact Fisher, classes at several positions",
    ),
    Mutant(
        name="labels-of-another-sample",
        mistake="pairs a sample with its neighbour's label (right: its own)",
        story="Inputs and targets are shuffled apart.",
        ekfac=_columns(_mixed_up, fishers=(Empirical,)),
        laws=("trace", "recut", "eigenvalues"),
        only="the empirical Fisher, batches of more than one sample",
    ),
    Mutant(
        name="residual-not-squared",
        mistake="differentiates 1/2 |f - y| (right: 1/2 |f - y|^2)",
        story="The gradient is half a unit vector whatever the error: asdl@20d2474.",
        ekfac=_columns(_norm_of_residual, (Gaussian,), (Empirical,)),
        laws=("trace", "eigenvalues"),
        only="the empirical Fisher of squared errors",
    ),
    Mutant(
        name="squared-error-twice",
        mistake="differentiates |f - y|^2 (right: half of it, a unit-variance Gaussian)",
        story="The factor 2 between a squared error and a log-likelihood: probably curvlinops#82 "
        "and Laplace#146.",
        ekfac=_columns(lambda asked: _mean_over(asked, 0.5), (Gaussian,)),
        laws=("trace", "eigenvalues"),
        only="squared errors",
    ),
    Mutant(
        name="loss-averaged-over-outputs",
        mistake="averages the loss over outputs (right: sums)",
        story="MSELoss and BCEWithLogitsLoss divide by entries, not by samples: curvlinops#108.",
        ekfac=_columns(
            lambda asked: _mean_over(asked, asked.f[0].numel()), (Gaussian, Bernoulli, Poisson)
        ),
        laws=("trace", "eigenvalues"),
        only="two outputs or more, not of classes",
    ),
    Mutant(
        name="loss-averaged-over-positions",
        mistake="averages the loss over a sample's positions, ignored labels included (right: sums "
        "over those with a label)",
        story="loss.mean(dim=1), as in opacus#792.",
        ekfac=_columns(lambda asked: _mean_over(asked, _positions_of(asked)), (Categorical,)),
        laws=("trace", "eigenvalues"),
        only="classes at several positions",
    ),
    Mutant(
        name="loss-averaged-over-labels",
        mistake="averages the loss over the labels that are not ignored (right: sums)",
        story="CrossEntropyLoss divides by all labels, not by samples: curvlinops#108.",
        ekfac=_columns(lambda asked: _mean_over(asked, _labels_of(asked)), (Categorical,)),
        laws=("trace", "eigenvalues"),
        only="classes at several positions with two labels or more",
    ),
    Mutant(
        name="ignored-labels-counted",
        mistake="gives positions without a label one (right: they add nothing)",
        story="Sampled labels that were not masked, kronfluence@5e76f33, or -100 clamped to class "
        "0.",
        ekfac=_columns(_none_ignored, (Categorical,)),
        laws=("trace", "eigenvalues"),
        only="ignored labels",
    ),
    Mutant(
        name="softmax-over-positions",
        mistake="normalises over positions (right: over classes)",
        story="softmax(dim=1) on [N, T, classes], or dim=-1 on [N, classes, T].",
        ekfac=_columns(_along_positions, (Categorical,)),
        laws=("trace", "eigenvalues"),
        only="classes at several positions",
    ),
    Mutant(
        name="softmax-twice",
        mistake="takes probabilities for logits (right: logits)",
        story="A softmax in the model and another one in the loss; training goes on all the same.",
        ekfac=_columns(_of_other_outputs(_softmaxed), (Categorical,)),
        laws=("trace", "eigenvalues"),
        only="two classes or more",
    ),
    Mutant(
        name="temperature-two",
        mistake="computes probabilities at temperature 2 (right: 1)",
        story="Softened outputs, left over from distillation.",
        ekfac=_columns(_of_other_outputs(lambda asked: asked.f / 2), (Categorical, Bernoulli)),
        laws=("trace", "eigenvalues"),
        only="two classes or more",
    ),
)
