"""What several features have in common: positions, say, of whatever kind of layer.

No features of their own: nobody refuses or draws them, and a scoreboard has them one by one. But a
mistake in the sum over positions is wrong wherever there are several.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType

COMMON: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "several positions": frozenset(
            {
                "positions of a Linear, one axis",
                "positions of a Linear, several axes",
                "positions of a convolution",
                "positions of an Embedding",
                "tokens as samples",
                "tokens first",
                "called twice",
                "weight used beside its module",
            }
        ),
        "a convolution": frozenset({"Conv1d", "Conv2d", "Conv3d"}),
        "a transposed convolution": frozenset(
            {"ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"}
        ),
    }
)


def with_common(features: Collection[str]) -> tuple[str, ...]:
    """These features, and behind them what they have in common with others."""
    return (*features, *(name for name, some in COMMON.items() if some & {*features}))


def spelled_out(names: Collection[str]) -> set[str]:
    """These names, and of what is common to several features those too."""
    return {*names}.union(*(COMMON.get(name, ()) for name in names))
