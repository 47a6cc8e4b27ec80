"""What inputs look like: families of data that reach the corners of the algebra on purpose.

Each takes float inputs [N, ..., d] and gives inputs of the same shape. Two corners are reached by
the head instead: ``saturate`` decides its outputs, ``every_with_every`` makes its labels
independent of its inputs.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Data = Callable[[Tensor], Tensor]


def plain(x: Tensor) -> Tensor:
    """The inputs as they are drawn."""
    return x


def duplicated(x: Tensor) -> Tensor:
    """All samples but the last equal the first: fewer distinct rows than samples."""
    return torch.cat([x[:1].expand(len(x) - 1, *x.shape[1:]), x[-1:]]) if len(x) > 1 else x


def one_hot(x: Tensor) -> Tensor:
    """Unit vectors in turn: A is diagonal with repeated eigenvalues, and no basis is special."""
    rows = torch.arange(x[..., 0].numel()) % x.shape[-1]
    return torch.eye(x.shape[-1])[rows].reshape(x.shape).to(x)


def badly_scaled(x: Tensor) -> Tensor:
    """Features from 1/128 to 128 times as large, by powers of two, which move no digit."""
    d = x.shape[-1]
    return x * torch.tensor([2.0 ** round(14 * i / max(d - 1, 1) - 7) for i in range(d)]).to(x)


def uncentred(x: Tensor) -> Tensor:
    """A mean far from zero: 3 is added to every feature."""
    return x + 3


def dead(x: Tensor) -> Tensor:
    """The first feature is always zero."""
    return torch.cat([torch.zeros_like(x[..., :1]), x[..., 1:]], -1)


def constant(x: Tensor) -> Tensor:
    """Every sample and position equals the first: A has rank one."""
    return x[:1].reshape(-1, x.shape[-1])[:1].expand(x[..., 0].numel(), -1).reshape(x.shape)


def whitened(x: Tensor) -> Tensor:
    """A is a multiple of I, or of a projection where rows are few: no basis is special.

    With more rows than features their mean is zero, so that it holds for A with a bias, too.
    """
    rows = x.reshape(-1, x.shape[-1])
    if len(rows) > rows.shape[1]:
        ones = torch.ones_like(rows[:, :1])
        rows = _orthonormal(torch.cat([ones, rows], 1))[:, 1:]
    else:
        rows = _orthonormal(rows)
    return torch.zeros_like(x).copy_((rows * len(rows) ** 0.5).reshape(x.shape))


def orthogonal(x: Tensor) -> Tensor:
    """Orthogonal rows of lengths 1, 2, 3 ...; those that find no direction any more are zero."""
    rows = x.reshape(-1, x.shape[-1])
    few = min(rows.shape)
    Q = _orthonormal(rows[:few]) * torch.arange(1, few + 1)[:, None]
    return torch.cat([Q, rows[few:] * 0]).reshape(x.shape).to(x)


def _orthonormal(rows: Tensor) -> Tensor:
    """Orthonormal columns, or rows where these are fewer; as far as they can, of the same spans."""
    if len(rows) < rows.shape[1]:
        return _orthonormal(rows.T).T
    Q: list[Tensor] = []
    units = list(torch.eye(len(rows), dtype=torch.float64))
    for column in rows.double().T:
        # A QR decomposition would put whatever rounding leaves of a column that depends on those
        # before it, which differs from machine to machine; a unit vector does not.
        Q.append(next(q for v in (column, *units) if (q := _beside(Q, v)) is not None))
    return torch.stack(Q, 1)


def _beside(Q: list[Tensor], v: Tensor) -> Tensor | None:
    """The direction of v that is orthogonal to all of Q, which are; None if little is left of v."""
    left = v
    for q in (*Q, *Q):  # twice, or rounding would stay
        left = left - q * (q @ left)
    return left / left.norm() if left.norm() > 0.01 * v.norm() else None


def zero(x: Tensor) -> Tensor:
    """Zeros only: a weight without a bias has no gradient."""
    return torch.zeros_like(x)


# Who stands here several times is drawn so many times as often.
OF_ANY_SIZE: tuple[Data, ...] = (
    *(plain, badly_scaled, uncentred, plain, duplicated, one_hot, plain, dead),
    *(badly_scaled, constant, uncentred, zero),
)
# Those that leave a rate exp(f) within float32.
TAME: tuple[Data, ...] = (plain, duplicated, one_hot, plain, dead, constant, zero)
# Those whose corner is in the rows that a Linear sees; the patches of an image have none of it.
# Three times over, since few families of networks can have them.
OF_ROWS: tuple[Data, ...] = (whitened, orthogonal, whitened) * 3


def saturate(model: nn.Module) -> None:
    """Make the logits 32 times as large: probabilities are 0 or 1 to a digit or to all."""
    *_, last = (m for m in model.modules() if next(m.parameters(False), None) is not None)
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.mul_(32)


def every_with_every(model: nn.Module, N: int) -> tuple[Tensor, Tensor]:
    """Pair each of two inputs with each of N / 2 labels: (input index [N], label index [N]).

    N is even. The head's weight becomes zero, so that its output gradients depend on the labels
    alone. On such data KFAC is exact for the head under the empirical Fisher, and no other layer
    has a gradient.
    """
    with torch.no_grad():
        _head(model).weight.zero_()
    return torch.arange(N) // (N // 2), torch.arange(N) % (N // 2)


def _head(model: nn.Module) -> nn.Linear:
    return [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
