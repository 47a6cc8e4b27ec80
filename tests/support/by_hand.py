r"""a and g by hand, without a network: the data on which KFAC is exact, EKFAC alone is, or neither.

Most laws of KFAC and EKFAC speak of a and g only, so they can be asked on numbers that were put
there by hand. Each family below is data with a theorem (docs/laws.md); ``generic`` has none.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.question.sharing import Sharing

Fill = Callable[..., Tensor]


def observation(
    a: list[Tensor], g: list[Tensor], sharing: Sharing, counted: list[Tensor] | None = None
) -> Observation:
    """a_n [T_n, d_in] and g_n [C_n, T_n, d_out] as if a layer had seen them."""
    everything = [torch.ones(len(a_n), dtype=torch.bool) for a_n in a]
    G = [torch.einsum("cto,ti->coi", g_n, a_n) for a_n, g_n in zip(a, g, strict=True)]
    still_a = [torch.zeros_like(a_n[:, 0]) for a_n in a]
    size_g = [g_n.norm(dim=(0, 2)) for g_n in g]
    counts, batch, dtype = counted or everything, [0] * len(a), a[0].dtype
    return Observation(a, g, counts, G, sharing, dtype, batch, still_a, size_g)


def generic(
    fill: Fill, sharing: Sharing, N: int, T: int, C: int, d: tuple[int, int]
) -> Observation:
    """No structure at all; d = (d_out, d_in). T_n = T for even n, 1 for odd n."""
    lengths = [T if n % 2 == 0 else 1 for n in range(N)]
    a, g = [fill(t, d[1]) for t in lengths], [fill(C, t, d[0]) for t in lengths]
    return observation(a, g, sharing)


def one_sample(fill: Fill, sharing: Sharing, C: int, d: tuple[int, int]) -> Observation:
    """N = 1, T = 1, any number of columns: F = sum_c g_c g_c^T (x) a a^T."""
    return observation([fill(1, d[1])], [fill(C, 1, d[0])], sharing)


def constant_inputs(
    fill: Fill, sharing: Sharing, N: int, C: int, d: tuple[int, int]
) -> Observation:
    """T = 1 and one a for all samples."""
    a = fill(1, d[1])
    return observation([a] * N, [fill(C, 1, d[0]) for _ in range(N)], sharing)


def constant_gradients(
    fill: Fill, sharing: Sharing, N: int, C: int, d: tuple[int, int]
) -> Observation:
    """T = 1 and, for each column, one g for all samples."""
    g = fill(C, 1, d[0])
    return observation([fill(1, d[1]) for _ in range(N)], [g] * N, sharing)


def product(fill: Fill, sharing: Sharing, N: int, C: int, d: tuple[int, int]) -> Observation:
    """T = 1 and every a paired with every g: N^2 samples, sums factorise."""
    a, g = [fill(1, d[1]) for _ in range(N)], [fill(C, 1, d[0]) for _ in range(N)]
    return observation([x for x in a for _ in g], [x for _ in a for x in g], sharing)


def constant_inputs_over_positions(
    fill: Fill, sharing: Sharing, N: int, C: int, d: tuple[int, int]
) -> Observation:
    """T = 3, one a for all samples and positions, columns spread over all positions."""
    a = fill(1, d[1]).expand(3, -1)
    return observation([a] * N, [fill(C, 3, d[0]) for _ in range(N)], sharing)


def columns_at_one_position_constant_inputs(
    fill: Fill, sharing: Sharing, N: int, C: int, d: tuple[int, int]
) -> Observation:
    """T = 3, one a for all samples and positions, each column at a position of its own."""
    at = torch.eye(3, dtype=torch.float64)[torch.arange(C) % 3][:, :, None]
    a = fill(1, d[1]).expand(3, -1)
    return observation([a] * N, [fill(C, 1, d[0]) * at for _ in range(N)], sharing)


def columns_at_one_position_constant_gradients(
    fill: Fill, sharing: Sharing, N: int, C: int, d: tuple[int, int]
) -> Observation:
    """T = 3, the same C columns at each position, the same for all samples."""
    g = fill(C, d[0])
    at_each = torch.einsum("co,st->scto", g, torch.eye(3, dtype=torch.float64)).flatten(0, 1)
    return observation([fill(3, d[1]) for _ in range(N)], [at_each] * N, sharing)


def gradients_constant_over_positions(
    fill: Fill, sharing: Sharing, N: int, C: int, d: tuple[int, int]
) -> Observation:
    """T = 3 and, for each column, one g for all samples and positions."""
    g = fill(C, 1, d[0]).expand(-1, 3, -1)
    return observation([fill(3, d[1]) for _ in range(N)], [g] * N, sharing)


def orthogonal(fill: Fill, sharing: Sharing, N: int, d: tuple[int, int]) -> Observation:
    """T = C = 1, orthogonal a_n, orthogonal g_n, distinct norms: EKFAC is F and KFAC is not.

    In the standard basis turned by ``fill``'s own orthogonal matrices; N <= min(d).
    """
    R, U = torch.linalg.qr(fill(d[1], d[1]))[0], torch.linalg.qr(fill(d[0], d[0]))[0]
    a = [(n + 1.0) * R[:, n][None] for n in range(N)]
    g = [(n + 1.0) * U[:, n][None, None] for n in range(N)]
    return observation(a, g, sharing)


def rotated(seen: Observation, U: Tensor, R: Tensor) -> Observation:
    """a -> R a and g -> U g, for any matrices of the right sizes."""
    a, g = [a_n @ R.T for a_n in seen.a], [g_n @ U.T for g_n in seen.g]
    return observation(a, g, seen.sharing, seen.counted)
