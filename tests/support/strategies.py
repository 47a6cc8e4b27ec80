"""Strategies for laws of the matrix half: numbers, sizes and bases, without a network."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from ekfac_ref.conformance.problems.families.rows import pairs, vectors
from ekfac_ref.conformance.problems.strategies import filler
from ekfac_ref.question.sharing import Expand, Reduce

one_position_families = (vectors, pairs)
seeds, small = st.integers(0, 2**16), st.integers(1, 3)
lattice_first = st.sampled_from([True, False])  # shrinks to what can be read
fills = st.builds(filler, lattice_first, seeds, st.just(torch.float64))
sharings = st.sampled_from([Expand(), Reduce()])
sizes_by_hand = st.tuples(
    st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.tuples(st.integers(1, 4), small)
)  # N, T, C, (d_out, d_in), as ``by_hand.generic`` takes them


def orthogonal_matrix(d: int) -> st.SearchStrategy[Tensor]:
    """A signed permutation, which can be read, or a generic orthogonal matrix."""

    def signed(order: list[int], signs: list[int]) -> Tensor:
        return torch.eye(d).double()[order] * torch.tensor(signs).double()

    def generic(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.linalg.qr(torch.randn(d, d, generator=generator).double())[0]

    signs = st.lists(st.sampled_from([-1, 1]), min_size=d, max_size=d)
    return st.builds(signed, st.permutations(range(d)), signs) | st.builds(generic, seeds)
