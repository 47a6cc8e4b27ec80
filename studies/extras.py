"""A study's way out where what it needs beyond the package is not installed."""

import sys

from ekfac_ref.extras import missing


def require(extra: str) -> None:
    """End the program with exit code 1, and say how to install the extra, unless it is there."""
    if what := missing(extra):
        sys.exit(f"{what} missing: install with pip install 'ekfac-ref[{extra}]'")
