"""f = V [tanh(W [x; 1]); 1], differentiated by hand in numpy: no torch, no autograd.

For a column s in output space: the gradient of <f, s> by V is s [h; 1]^T, by W it is
((1 - h^2) * (V_h^T s)) [x; 1]^T, where V_h is V without its bias column and h = tanh(W [x; 1]).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Columns = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Layer:
    """One layer, one sample (T = 1): a [d_in] with the bias's 1 last, g [C, d_out], G = g a^T."""

    a: Array
    g: Array

    @property
    def G(self) -> Array:
        """[C, d_out, d_in]."""
        return np.array([np.outer(g_c, self.a) for g_c in self.g])


def forward(W: Array, V: Array, x: Array) -> tuple[Array, Array]:
    """The hidden units h and outputs f of one sample; the last column of W and V is the bias."""
    h = np.tanh(W @ np.append(x, 1.0))
    return h, V @ np.append(h, 1.0)


def backward(W: Array, V: Array, x: Array, y: Array, columns: Columns) -> tuple[Layer, Layer]:
    """The first and the second layer of one sample."""
    h, f = forward(W, V, x)
    S = columns(f, y)
    first = [(1 - h**2) * (V[:, :-1].T @ s) for s in S]
    return Layer(np.append(x, 1.0), np.array(first)), Layer(np.append(h, 1.0), S)


def squared_error_exact(f: Array, y: Array) -> Array:
    """The Hessian of 1/2 |f - y|^2 is I; rows are columns s_c: [C, K]."""
    return np.eye(len(f))


def squared_error_empirical(f: Array, y: Array) -> Array:
    """f - y."""
    return (f - y)[None]


def softmax(f: Array) -> Array:
    """exp(f_k) / sum_j exp(f_j)."""
    shifted = np.exp(f - f.max())
    return shifted / shifted.sum()


def softmax_exact(f: Array, y: Array) -> Array:
    """s_c = sqrt(p_c) (e_c - p), since sum_c s_c s_c^T = diag(p) - p p^T."""
    p = softmax(f)
    return np.array([np.sqrt(p[c]) * (np.eye(len(f))[c] - p) for c in range(len(f))])


def softmax_empirical(f: Array, y: Array) -> Array:
    """p - e_y, y the label."""
    return (softmax(f) - np.eye(len(f))[int(y)])[None]


def per_sample(
    W: Array, V: Array, X: Array, Y: Array, columns: Columns
) -> list[tuple[Layer, Layer]]:
    """Both layers of every sample."""
    return [backward(W, V, x, y, columns) for x, y in zip(X, Y, strict=True)]


def fisher(layers: list[Layer]) -> Array:
    """F = (1/N) sum_n sum_c vec(G_nc) vec(G_nc)^T, vec by rows, for one of the two layers."""
    F = np.zeros(2 * (layers[0].G[0].size,))
    for layer in layers:
        for G_c in layer.G:
            F += np.outer(G_c.reshape(-1), G_c.reshape(-1))
    return F / len(layers)


def kfac_factors(layers: list[Layer]) -> tuple[Array, Array]:
    """B = (1/N) sum_nc g_nc g_nc^T and A = (1/N) sum_n a_n a_n^T, B first."""
    B = sum(np.outer(g_c, g_c) for layer in layers for g_c in layer.g) / len(layers)
    A = sum(np.outer(layer.a, layer.a) for layer in layers) / len(layers)
    return B, A
