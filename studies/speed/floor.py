"""The time that no way around is known of: passes of the model, and the products of matrices.

Two forwards and backwards of all data: EKFAC needs one for the factors and one for the eigenvalues;
KFAC needs one, and one to be held to. The products that make A and B of inputs and gradients; for
EKFAC the eigenproblems, of as many dimensions as there are rows at most, and the rotations and
squares that make Lambda; the first product with a vector. On random numbers of the shapes that the
layers see, without what finds those numbers, or cuts patches out of images.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from ekfac_ref.matrix.ekfac import squares_from_taps
from studies.speed.cases import Case


@dataclass(frozen=True)
class Seen:
    """The sizes of one call of a layer: samples, positions, outputs, inputs with the bias's 1."""

    N: int
    T: int
    d_out: int
    d_in: int


def floor(case: Case, corrected: bool) -> Callable[[], float]:
    """What measures it once, in seconds: of EKFAC if ``corrected``, else of KFAC."""
    calls = sightings(case)
    taps = {seen: _random(seen) for seen in calls}
    sizes = {(d, min(d, seen.N * seen.T)) for seen in calls for d in (seen.d_out, seen.d_in)}
    bases = {(d, r): _basis(d, r) for d, r in sizes}
    vectors = {seen: torch.ones(seen.d_out, seen.d_in) for seen in calls}

    def once() -> float:
        start = time.perf_counter()
        for _ in range(2):
            one_pass(case)
        for seen in calls:
            a, g = taps[seen]
            V, rows = vectors[seen], (g.flatten(0, 2), a.flatten(0, 1))
            if not corrected:
                B, A = (x.T @ x for x in rows)
                B @ V @ A
                continue
            for x in rows:
                _eigenvectors(x)
            Q_B, Q_A = (bases[d, min(d, len(x))] for x in rows for d in x.shape[1:])
            squares_from_taps(a, g, Q_B, Q_A)
            Q_B @ (Q_B.T @ V @ Q_A) @ Q_A.T
        return time.perf_counter() - start

    return once


def sightings(case: Case) -> list[Seen]:
    """What the layers see of all data, of every layer one; batches are taken to be one."""
    found: dict[str, Seen] = {}
    N = case.samples

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def see(module: nn.Module, given: tuple[Tensor, ...], y: Tensor) -> None:
            weight, bias = next(module.parameters()), getattr(module, "bias", None)
            images = isinstance(module, nn.Conv2d)
            T = prod(y.shape[2:] if images else y.shape[1:-1])
            found[name] = Seen(N, T, weight.shape[0], weight[0].numel() + (bias is not None))

        return see

    kinds = (nn.Linear, nn.Conv2d)
    hooks = [
        module.register_forward_hook(note(name))
        for name, module in case.model.named_modules()
        if isinstance(module, kinds)
    ]
    with torch.no_grad():
        case.model(next(iter(case.loader))[0])
    for hook in hooks:
        hook.remove()
    return [*found.values()]


def one_pass(case: Case) -> None:
    """Forward and backward once, over all data."""
    for x, y in case.loader:
        torch.autograd.grad(case.loss(case.model(x), y), list(case.trained.values()))


def _random(seen: Seen) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(seen.N, seen.T, seen.d_in, generator=generator)
    return a, torch.randn(seen.N, 1, seen.T, seen.d_out, generator=generator)


def _basis(d: int, r: int) -> Tensor:
    return torch.linalg.qr(torch.randn(d, r, generator=torch.Generator().manual_seed(d)))[0]


def _eigenvectors(rows: Tensor) -> Tensor:
    """Of their Gram matrix, as columns; of the span of a few rows alone."""
    if len(rows) >= rows.shape[1]:
        return torch.linalg.eigh(rows.T @ rows)[1]
    Q, R = torch.linalg.qr(rows.T)
    return Q @ torch.linalg.eigh(R @ R.T)[1]
