"""Geometries of convolutions: one option at a time, the same on all axes or another on each.

Who takes the numbers of one axis for all is right on square images, so uneven options come often.
"""

from typing import Any

from torch import nn

from ekfac_ref.conformance.problems.choices import Draw
from ekfac_ref.conformance.problems.designed.design import Channels, ungrouped
from ekfac_ref.conformance.problems.designed.variation import Variation, varied, with_positions
from ekfac_ref.conformance.problems.facts import ANY_CONVOLUTION
from ekfac_ref.conformance.problems.features import (
    CONVOLUTION_KINDS,
    KINDS_OF_THREE_AXES,
    KINDS_OF_TWO_AXES,
)

_UNEVEN: dict[str, Any] = {
    "stride": ((1, 2), (2, 1), (3, 2)),
    "dilation": ((1, 2), (2, 1)),
    "padding": ((0, 1), (1, 0)),
}
_LAST_AXIS = ((0, 1),)  # padded there alone: who gives the axes in reverse is found out


def _grouped(draw: Draw) -> Channels:
    return draw(((2, 2, 1), (2, 2, 2)))


def _depthwise(draw: Draw) -> Channels:
    return draw(((2, 1, 2), (3, 1, 1), (2, 1, 3)))


def _by_axes(name: str, even: tuple[int, ...]) -> tuple[Variation, ...]:
    """An option, the same on all axes and uneven on two; three axes are costly: only uneven."""
    few = tuple(kind for kind in ANY_CONVOLUTION if kind not in KINDS_OF_THREE_AXES)
    uneven, parts = f"uneven {name}", {name: _UNEVEN[name]}
    return (
        varied(name, with_positions, few, **{name: even}),
        Variation((name, uneven), parts, KINDS_OF_THREE_AXES, with_positions),
        varied(uneven, with_positions, KINDS_OF_TWO_AXES, **parts),
    )


OF_GEOMETRY = (
    varied("groups", channels=_grouped),
    varied("depthwise", channels=_depthwise),
    varied("uneven kernel", with_positions, KINDS_OF_TWO_AXES, extent=3),
    *_by_axes("stride", (2, 3)),
    *_by_axes("dilation", (2,)),
    *_by_axes("padding", (1,)),
    varied("padding same, even", with_positions, padding="same", extent=3, stride=(1,)),
    varied("padding same, odd", with_positions, padding="same", extent=2, stride=(1,)),
    varied("padding mode", with_positions, padding=_LAST_AXIS, mode=("circular", "replicate")),
    varied("padding by reflection", with_positions, padding=_LAST_AXIS, mode=("reflect",)),
    varied("output padding", with_positions, stride=(2, 3), output_padding=1),
    varied(
        "more positions than weights",
        with_positions,
        CONVOLUTION_KINDS,
        channels=ungrouped,
        many=True,
    ),
)
# Most convolutions have two axes, and so do most implementations.
UNEVEN_AT_ONCE = tuple(
    Variation(tuple(f"uneven {name}" for name in _UNEVEN), _UNEVEN, (kind,), with_positions)
    for kind in (nn.Conv2d, nn.Conv2d, nn.Conv2d, nn.ConvTranspose2d)
)
