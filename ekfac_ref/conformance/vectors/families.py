r"""The data of all vectors, family by family: what is special about a and g, and nothing else.

All numbers are small fractions of powers of two. A family is a function of a source of numbers and
of its turn, and gives (a, g, counted) without the 1 of a bias; its docstring goes into the files.
"""

from collections.abc import Callable
from random import Random

import numpy as np
from jaxtyping import Bool, Float64

_A = Float64[np.ndarray, "N T d"]
_G = Float64[np.ndarray, "N C T d_out"]
BareData = tuple[_A, _G, Bool[np.ndarray, "N T"]]
_HADAMARD = np.array(
    [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=np.float64
)


class Quarters:
    """A source of numbers: ``numbers(*shape)`` are the next ones, quarters from -2 to 2."""

    def __init__(self, name: str) -> None:
        self._random = Random(name)

    def __call__(self, *shape: int) -> Float64[np.ndarray, "*shape"]:
        """The next numbers, of this shape."""
        count = int(np.prod(shape))
        return np.array([int(self._random.random() * 17) / 4 - 2 for _ in range(count)]).reshape(
            shape
        )

    def one_of(self, *options: int) -> int:
        """One of these whole numbers, by chance."""
        return options[int(self._random.random() * len(options))]


BareFamily = Callable[[Quarters, int], BareData]


def _all(a: _A, g: _G) -> BareData:
    return a, g, np.ones(a.shape[:2], dtype=bool)


def _data(numbers: Quarters, N: int, T: int, C: int, d: int, d_out: int) -> BareData:
    return _all(numbers(N, T, d), numbers(N, C, T, d_out))


def _sizes(numbers: Quarters, turn: int) -> tuple[int, int, int, int, int]:
    """N, T, C, d, d_out: other inputs than outputs, and more samples than either."""
    T, C = ((1, 1), (2, 1), (3, 2), (2, 3))[turn % 4]
    d, d_out = ((2, 3), (3, 2), (1, 3), (3, 4), (2, 1))[turn % 5]
    return numbers.one_of(5, 6, 7), T, C, d, d_out


def bare_generic(numbers: Quarters, turn: int) -> BareData:
    """Numbers with nothing special about them, more samples than inputs and outputs."""
    return _data(numbers, *_sizes(numbers, turn))


def bare_one_sample(numbers: Quarters, turn: int) -> BareData:
    """N = 1. With one position, KFAC, EKFAC and F are one matrix."""
    return _data(numbers, 1, *_sizes(numbers, turn)[1:])


def bare_rank_deficient(numbers: Quarters, turn: int) -> BareData:
    """Fewer rows than inputs or outputs: A and B have several eigenvalues 0."""
    T, C = ((1, 1), (2, 1), (1, 2))[turn % 3]
    return _data(numbers, 2, T, C, *((4, 3), (3, 5), (4, 4))[turn % 3])


def bare_duplicated(numbers: Quarters, turn: int) -> BareData:
    """Every sample twice: means are those of half of them."""
    _, T, C, d, d_out = _sizes(numbers, turn)
    a, g, counted = _data(numbers, 3, T, C, d, d_out)
    return np.repeat(a, 2, 0), np.repeat(g, 2, 0), np.repeat(counted, 2, 0)


def bare_dead(numbers: Quarters, turn: int) -> BareData:
    """The first input is always zero, and so is the last output gradient."""
    N, T, C, _, _ = _sizes(numbers, turn)
    a, g, counted = _data(numbers, N, T, C, 3, 3)
    a[..., 0] = 0
    g[..., -1] = 0
    return a, g, counted


def bare_zero_inputs(numbers: Quarters, turn: int) -> BareData:
    """Inputs are zero: without a bias, so are all gradients."""
    a, g, counted = bare_generic(numbers, turn)
    return a * 0, g, counted


def bare_zero_gradients(numbers: Quarters, turn: int) -> BareData:
    """Output gradients are zero, and so is every matrix but A."""
    a, g, counted = bare_generic(numbers, turn)
    return a, g * 0, counted


def bare_badly_scaled(numbers: Quarters, turn: int) -> BareData:
    """Inputs of other sizes, by powers of two: by a few, or by so many that eigengaps are tiny."""
    N, T, C, _, d_out = _sizes(numbers, turn)
    a, g, counted = _data(numbers, N, T, C, 3, d_out)
    return a * np.array([1.0, 1 / 4, 4.0] if turn % 2 else [1 / 128, 1.0, 128.0]), g, counted


def bare_uncentred(numbers: Quarters, turn: int) -> BareData:
    """Inputs have a mean far from zero: 3 is added to each."""
    a, g, counted = bare_generic(numbers, turn)
    return a + 3, g, counted


def bare_constant_inputs(numbers: Quarters, turn: int) -> BareData:
    """Every sample and position has the same inputs; where F = B (x) A, E is F."""
    a, g, counted = bare_generic(numbers, turn)
    return np.broadcast_to(a[:1, :1], a.shape).copy(), g, counted


def bare_every_pair(numbers: Quarters, turn: int) -> BareData:
    """Each of two inputs with each of three gradients: KFAC, EKFAC and F are one matrix."""
    d, d_out = ((2, 3), (3, 2), (4, 3))[turn % 3]
    a, g = numbers(2, 1, d), numbers(3, 1 + turn % 2, 1, d_out)
    return _all(np.repeat(a, 3, 0), np.concatenate([g, g]))


def bare_orthogonal(numbers: Quarters, turn: int) -> BareData:
    """Inputs and gradients along distinct axes, of distinct lengths: EKFAC is F, KFAC is not."""
    d = 3 + turn % 2
    lengths = np.array([1.0, 2.0, 3.0])
    a, g = np.zeros((3, 1, d)), np.zeros((3, 1, 1, 3))
    for n in range(3):
        a[n, 0, (n + turn) % d] = lengths[n]
        g[n, 0, 0, (n + 2 * turn) % 3] = lengths[(n + 1 + turn) % 3] / 2
    return _all(a, g)


def bare_one_hot(numbers: Quarters, turn: int) -> BareData:
    """Inputs are unit vectors, each as often: A is a multiple of I, and no basis is special."""
    d = 2 + turn % 2
    a = np.tile(np.eye(d), (2 + turn % 2, 1))[:, None]
    return _all(a, numbers(len(a), 1 + turn % 2, 1, 2))


def bare_whitened(numbers: Quarters, turn: int) -> BareData:
    """Inputs are the rows of a Hadamard matrix: A is I, with a bias among the inputs or without."""
    columns = slice(1, 4) if turn % 2 else slice(2, 4)
    return _all(_HADAMARD[:, None, columns].copy(), numbers(4, 1 + turn % 2, 1, 2 + turn % 2))


def bare_white_gradients(numbers: Quarters, turn: int) -> BareData:
    """B is a multiple of I: unit vectors in all columns, as of squared errors, or one in each."""
    N, T, _, d, _ = _sizes(numbers, turn)
    if turn % 2:
        return _all(numbers(6, 1, d), np.tile(np.eye(3), (2, 1))[:, None, None])
    g = np.zeros((N, 2, T, 2))
    for k in range(2):
        g[:, k, 0, k] = 1.0
    return _all(numbers(N, T, d), g)


def bare_cancelling(numbers: Quarters, turn: int) -> BareData:
    """Positions cancel in the means of a and the sums of g: with reduce, A and B miss gradients."""
    N, d, d_out = 3, 2, 2 + turn % 2
    a, g = numbers(N, 1, d), numbers(N, 1, 1, d_out)
    a = np.concatenate([a, -a], 1)
    g = np.concatenate([g, -g], 2)
    a[-1, :, 0] += turn % 2  # one that does not
    return _all(a, g)


def bare_masked(numbers: Quarters, turn: int) -> BareData:
    """Some positions do not count, another number in every sample, whatever stands there."""
    _, _, C, d, d_out = _sizes(numbers, turn)
    N, T = 5, 3
    counted = np.arange(T) < np.array([1, 3, 2, 1, 2])[:, None]
    if turn % 2:
        counted = counted[:, ::-1].copy()  # padding in front
    a, g = numbers(N, T, d), numbers(N, C, T, d_out)
    a[~counted] = 7.0
    return a, g * counted[:, None, :, None], counted


def bare_masked_samples(numbers: Quarters, turn: int) -> BareData:
    """Some samples have no position that counts: they count in N, and in no mean of inputs."""
    a, g, counted = bare_masked(numbers, turn)
    counted[[1, 3]] = False
    a[~counted] = 7.0
    return a, g * counted[:, None, :, None], counted


def bare_narrow(numbers: Quarters, turn: int) -> BareData:
    """One input, one output, or both."""
    N, T, C, _, _ = _sizes(numbers, turn)
    return _data(numbers, N, T, C, *((1, 1), (1, 4), (3, 1))[turn % 3])


def bare_square(numbers: Quarters, turn: int) -> BareData:
    """As many outputs as inputs (the 1 of a bias not counted): no shape tells a from g."""
    N, T, C, _, _ = _sizes(numbers, turn)
    return _data(numbers, N, T, C, *((2, 2), (3, 3))[turn % 2])


def bare_many_columns(numbers: Quarters, turn: int) -> BareData:
    """More columns than outputs, as of a classifier that labels every position."""
    return _data(numbers, 4, 2, 4 + turn % 2, 2, 2 + turn % 2)


# {family: how many vectors it has, of each sharing and each treatment of the bias}
FAMILIES_OF_VECTORS: dict[BareFamily, int] = {
    bare_generic: 6,
    bare_one_sample: 2,
    bare_rank_deficient: 3,
    bare_duplicated: 2,
    bare_dead: 2,
    bare_zero_inputs: 1,
    bare_zero_gradients: 1,
    bare_badly_scaled: 2,
    bare_uncentred: 2,
    bare_constant_inputs: 2,
    bare_every_pair: 2,
    bare_orthogonal: 2,
    bare_one_hot: 2,
    bare_whitened: 2,
    bare_white_gradients: 2,
    bare_cancelling: 2,
    bare_masked: 3,
    bare_masked_samples: 2,
    bare_narrow: 3,
    bare_square: 2,
    bare_many_columns: 2,
}
