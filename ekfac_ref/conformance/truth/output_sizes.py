r"""How large the terms of the output Fisher are before they cancel: what arithmetic cannot know.

The columns S_n of a sample enter every matrix by way of H_n = sum_c s_nc s_nc^T, and nobody is
bound to compute them as this package does: another square root will do, p (1 - p) or p - p^2, the
gradient of a loss. A right H_n is off by some roundings of the terms that it is made of:

- diag p - p p^T and p (1 - p), of the exact Fisher, have terms as large as the largest p of the
  label, and keep them where a prediction is so sure that H itself is nearly zero. In Poisson's
  diag exp f and Gaussian's I nothing cancels.
- a score is m - y, with m the mean of the label. It is off by roundings of |m| + |y|, hence s s^T
  by |s| times those; where s vanishes, by the square of one.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ekfac_ref.question.columns import Exact
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Gaussian, Poisson
from ekfac_ref.question.problem import Problem


def output_sizes(
    problem: Problem,
    f: Float[Tensor, "N *out"],
    y: Shaped[Tensor, "N *labels"],
    S: Float[Tensor, "N C *out"],
    roundoff: float,
) -> Float[Tensor, "N *out"]:
    """R >= 0 with |H_nkl| made of terms up to R_nk R_nl, for outputs k and l; 0 at ignored labels.

    Args:
        problem: tells likelihood and Fisher; of a likelihood unknown here, nothing cancels.
        f: outputs.
        y: labels.
        S: the columns, H_n = sum_c s_nc s_nc^T.
        roundoff: of the arithmetic whose errors are bounded.
    """
    counts, mean = counted_outputs(problem, f, y), mean_of_label(problem, f)
    if mean is None:
        return _spread(S.flatten(1).norm(dim=1), counts)
    if isinstance(problem.fisher, Exact):
        return _terms_of_covariance(problem, f, mean).sqrt() * counts
    s = S.flatten(2) * S.shape[1] ** 0.5  # the score of one draw
    mean = (mean * counts).flatten(1)[:, None]
    terms = (mean.abs() + (mean - s).abs()).norm(dim=2)
    known = torch.maximum(s.norm(dim=2), roundoff * terms)
    return _spread((terms * known).mean(1).sqrt(), counts)


def _spread(size: Float[Tensor, " N"], counts: Float[Tensor, "N *out"]) -> Float[Tensor, "N *out"]:
    return size.reshape(-1, *[1] * (counts.dim() - 1)) * counts


def counted_outputs(problem: Problem, f: Tensor, y: Tensor) -> Tensor:
    """1 at outputs [N, *out] whose label counts, 0 at those of an ignored one."""
    likelihood = problem.likelihood
    if not isinstance(likelihood, Categorical):
        return torch.ones_like(f)
    counted = likelihood.counted(y).unsqueeze(-1).movedim(-1, likelihood.class_axis)
    return counted.to(f).expand_as(f)


def mean_of_label(problem: Problem, f: Tensor) -> Tensor | None:
    """The mean of every label, [N, *out], under the model; None of a likelihood unknown here."""
    match problem.likelihood:
        case Gaussian():
            return f
        case Categorical(class_axis=axis):
            return f.softmax(axis)
        case Bernoulli():
            return f.sigmoid()
        case Poisson():
            return f.exp()
    return None


def _terms_of_covariance(problem: Problem, f: Tensor, mean: Tensor) -> Tensor:
    match problem.likelihood:
        case Gaussian():
            return torch.ones_like(f)
        case Categorical(class_axis=axis):
            return mean.amax(axis, keepdim=True).expand_as(f)
    return mean
