"""Correct EKFACs in ordinary arithmetic: what people write who do not fight rounding.

The output Fisher by another square root, probabilities straight from softmax or sigmoid, gradients
of torch's own losses, sums in another order, last places off by one: each equals the kit's formula
on paper, and differs from it by what rounding does to terms that cancel. Whatever a law says of
these is a false alarm.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.problems.changed import jittered
from ekfac_ref.conformance.truth.cache import Content, content
from ekfac_ref.matrix.operators import Dense
from ekfac_ref.question.likelihoods import Likelihood

Root = Callable[[Tensor], Tensor]
Change = Callable[[ek.Problem], ek.Problem]


@dataclass(frozen=True)
class Otherwise:
    """A likelihood whose root and score are computed in another way.

    Attributes:
        exactly: the likelihood.
        root: of the Fisher [k, k] of one label, any R with R R^T equal to it.
        reduction: of torch's loss, whose gradient the score is; a mean is undone.
    """

    exactly: Likelihood
    root: Root
    reduction: str

    def check(self, f: Tensor, y: Tensor) -> None:
        """As the likelihood itself."""
        self.exactly.check(f, y)

    def sample(self, f: Tensor, y: Tensor, rng: Any) -> Tensor:
        """Draw as the likelihood itself does."""
        return self.exactly.sample(f, y, rng)

    def score(self, f: Tensor, y: Tensor) -> Tensor:
        """By autograd of torch's loss, [N, *out]."""
        with torch.enable_grad():
            leaf = f.detach().requires_grad_()
            loss, terms = self._loss(leaf, y)
            scale = terms if self.reduction == "mean" else 1
            (score,) = torch.autograd.grad(loss * scale, leaf)
        return score if terms else torch.zeros_like(score)  # a mean over nothing is NaN

    def square_root(self, f: Tensor, y: Tensor) -> Tensor:
        """The root of every label's own Fisher, [N, C, *out]."""
        if isinstance(self.exactly, ek.Categorical):
            return self._of_classes(self.exactly, f, y)
        if isinstance(self.exactly, ek.Bernoulli):
            p = f.sigmoid()
            root = (p * (1 - p)).sqrt()
        else:
            root = f.exp().sqrt() if isinstance(self.exactly, ek.Poisson) else torch.ones_like(f)
        return torch.diag_embed(root.flatten(1)).reshape(len(f), -1, *f.shape[1:])

    def _of_classes(self, likelihood: ek.Categorical, f: Tensor, y: Tensor) -> Tensor:
        logits = f.movedim(likelihood.class_axis, -1)
        p = logits.flatten(1, -2).softmax(-1) if logits.dim() > 2 else logits[:, None].softmax(-1)
        H = torch.diag_embed(p) - p[..., :, None] * p[..., None, :]
        R = torch.stack([self.root(H_nt) for H_nt in H.flatten(0, 1)]).reshape(H.shape)
        R = R * likelihood.counted(y).reshape(p.shape[:2])[..., None, None]
        S = f.new_zeros(len(f), p.shape[1], p.shape[2], *p.shape[1:])  # position, column; out
        for t in range(p.shape[1]):
            S[:, t, :, t] = R[:, t].mT
        S = S.reshape(len(f), -1, *logits.shape[1:])
        axis = likelihood.class_axis
        return S.movedim(-1, axis if axis < 0 else axis + 1)

    def _loss(self, f: Tensor, y: Tensor) -> tuple[Tensor, int]:
        """Torch's loss, and how many terms its mean is over."""
        how: Any = {"reduction": self.reduction}
        if isinstance(self.exactly, ek.Categorical):
            logits = f.movedim(self.exactly.class_axis, 1)
            index = self.exactly.ignore_index
            loss = F.cross_entropy(logits, y.long(), ignore_index=index, **how)
            return loss, int(self.exactly.counted(y).sum())
        if isinstance(self.exactly, ek.Bernoulli):
            return F.binary_cross_entropy_with_logits(f, y, **how), f.numel()
        if isinstance(self.exactly, ek.Poisson):
            return F.poisson_nll_loss(f, y, **how), f.numel()
        return F.mse_loss(f, y, **how) / 2, f.numel()


def _by_eigenvectors(H: Tensor) -> Tensor:
    """Q sqrt(max(w, 0)); in float32 at least, since there is no eigh in bfloat16."""
    w, Q = torch.linalg.eigh(H.to(torch.promote_types(H.dtype, torch.float32)))
    return (Q * w.clamp(min=0).sqrt()).to(H)


def _symmetric(H: Tensor) -> Tensor:
    """Q sqrt(max(w, 0)) Q^T."""
    w, Q = torch.linalg.eigh(H.to(torch.promote_types(H.dtype, torch.float32)))
    return ((Q * w.clamp(min=0).sqrt()) @ Q.mT).to(H)


def _by_cholesky(H: Tensor) -> Tensor:
    """L without pivots; a pivot that rounding leaves at zero or below ends its column."""
    L = H.new_zeros(H.shape)
    for k in range(len(H)):
        rest = H[k:, k] - L[k:] @ L[k]
        if rest[0] > 0:
            L[k:, k] = rest / rest[0].sqrt()
    return L


def _with(root: Root, reduction: str) -> Change:
    return lambda problem: replace(
        problem, likelihood=Otherwise(problem.likelihood, root, reduction)
    )


def _one_by_one(problem: ek.Problem) -> ek.Problem:
    """Every sample a batch of its own."""

    def one(n: int, x: Tensor) -> Tensor:
        return x[n : n + 1]

    batches = [
        tree_map(partial(one, n), tuple(batch))
        for batch in problem.batches
        for n in range(len(batch[1]))
    ]
    return replace(problem, batches=batches)


def _subject(name: str, change: Change) -> ct.Subject:
    """The reference, asked about the problem put otherwise."""

    @lru_cache(maxsize=4)  # the same ones for every vector
    def solver(known: Content) -> dict[str, Any]:
        return ek.ekfac(change(known.problem))

    def precondition(
        problem: ek.Problem, gradients: dict[str, Tensor], damping: float
    ) -> dict[str, Tensor]:
        blocks = solver(content(problem))
        return {layer: blocks[layer].solve(V, damping=damping) for layer, V in gradients.items()}

    return ct.Subject(
        name,
        lambda problem: ek.ekfac(change(problem)),
        kfac=lambda problem: ek.kfac(change(problem)),
        exact_fisher=lambda problem: ek.exact_fisher(change(problem)),
        precondition=precondition,
    )


def _inputs_first(problem: ek.Problem) -> dict[str, Any]:
    """E = diag(Q^T F Q) in the basis Q_A (x) Q_B: vec by columns, F written out."""

    def block(F: Dense, Q_B: Tensor, Q_A: Tensor) -> "_ByColumns":
        d_out, d_in = F.shape
        by_columns = F.matrix.reshape(d_out, d_in, d_out, d_in).permute(1, 0, 3, 2)
        Q = torch.kron(Q_A, Q_B)
        diagonal = (Q.T @ by_columns.reshape(F.matrix.shape) @ Q).diagonal()
        return _ByColumns((Q * diagonal) @ Q.T)

    F, E = ek.exact_fisher(problem), ek.ekfac(problem)
    found = {}
    for name in F:
        whole = [getattr(X, "blocks", (X,)) for X in (F[name], E[name])]
        pairs = zip(*whole, strict=True)
        parts = [block(f, _complete(e.Q_B), _complete(e.Q_A)) for f, e in pairs]
        found[name] = parts[0] if len(parts) == 1 else _GroupByGroup(parts)
    return found


def _complete(Q: Tensor) -> Tensor:
    """Orthonormal columns and what they leave out."""
    full = torch.linalg.qr(Q, mode="complete")[0]
    return torch.cat([Q, full[:, Q.shape[1] :]], 1)


@dataclass(frozen=True, eq=False)
class _ByColumns:
    matrix: Tensor

    def matvec(self, V: Tensor) -> Tensor:
        return (self.matrix @ V.T.reshape(-1)).reshape(V.T.shape).T


@dataclass(frozen=True, eq=False)
class _GroupByGroup:
    blocks: list[_ByColumns]

    def matvec(self, V: Tensor) -> Tensor:
        rows = V.chunk(len(self.blocks))
        return torch.cat(
            [block.matvec(part) for block, part in zip(self.blocks, rows, strict=True)]
        )


SUBJECTS = (
    _subject("eigenvector root, mean loss", _with(_by_eigenvectors, "mean")),
    _subject("symmetric root, summed loss", _with(_symmetric, "sum")),
    _subject("Cholesky root, mean loss", _with(_by_cholesky, "mean")),
    _subject("one sample at a time", _one_by_one),
    _subject("last places off by one", partial(jittered, seed=1000)),
    ct.Subject("inputs first", _inputs_first),
)
