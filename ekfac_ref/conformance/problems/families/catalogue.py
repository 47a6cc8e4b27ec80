"""All families of networks, and the layers that each is there for.

Each names the corners that it reaches, so that a test can count them.
"""

from collections.abc import Callable

from ekfac_ref.conformance.problems.choices import Draw
from ekfac_ref.conformance.problems.families import images, rows
from ekfac_ref.conformance.problems.networks import Network

Family = Callable[[Draw, int], Network]
FAMILIES: tuple[Family, ...] = (
    *(rows.vectors, rows.tokens, rows.tagger, rows.mixing_tagger, rows.masked_tokens),
    *(images.convolutions, images.same, images.wrapped, images.transposed),
    *(rows.pairs, rows.words),
)
TAGGERS: tuple[Family, ...] = (rows.tagger, rows.mixing_tagger)
OF_POSITIONS: tuple[Family, ...] = (
    *(rows.tokens, rows.tagger, rows.mixing_tagger, rows.masked_tokens),
    *(images.convolutions, images.same, images.wrapped, images.transposed),
)
# The layers that a family is there for; those that are not here have Linear ones alone.
KINDS: dict[Family, set[str]] = {
    images.convolutions: {"Conv1d", "Conv2d", "Conv3d"},
    images.same: {"Conv1d", "Conv2d", "Conv3d"},
    images.wrapped: {"Conv1d", "Conv2d", "Conv3d"},
    images.transposed: {"ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"},
    rows.pairs: {"Bilinear"},
    rows.words: {"Embedding"},
}
