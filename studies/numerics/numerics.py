"""Ways to do the same arithmetic: other kernels, another order of summation, other last digits."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Numerics:
    """A way to compute, told by environment variables, which libraries read when they are loaded.

    Attributes:
        name: in tables.
        environment: the variables.
        suite: whether the suite is run as well; its tests have one thread each anyway.
    """

    name: str
    environment: dict[str, str]
    suite: bool = True

    def in_environment(self, outer: Mapping[str, str]) -> dict[str, str]:
        """The environment with these variables, and with none of another numerics' own."""
        others = {name for numerics in NUMERICS for name in numerics.environment}
        kept = {name: value for name, value in outer.items() if name not in others}
        return kept | self.environment


NUMERICS = (
    Numerics("default", {}),
    Numerics("MKL compatible", {"MKL_CBWR": "COMPATIBLE"}),
    Numerics("MKL for AVX2", {"MKL_CBWR": "AVX2"}),
    Numerics("ATen's default kernels", {"ATEN_CPU_CAPABILITY": "default"}),
    Numerics("one thread", {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}, suite=False),
)
