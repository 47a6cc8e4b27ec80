"""Which samples and columns to take together, so that their gradients fit into memory at once."""

from collections.abc import Iterator

AT_ONCE = 8 * 2**20  # bytes of gradients


def pieces(N: int, C: int, bytes_of_one: int) -> Iterator[tuple[slice, slice]]:
    """(samples, columns) of N samples with C columns each, whose gradients G_nc are of such a size.

    Several whole samples where they fit, else some columns of one sample; always one G at least.
    """
    fitting = max(1, AT_ONCE // max(1, bytes_of_one))
    columns, samples = min(C, fitting), max(1, fitting // max(1, C))
    for n in range(0, N, samples):
        for c in range(0, C, max(1, columns)):
            yield slice(n, n + samples), slice(c, c + columns)
