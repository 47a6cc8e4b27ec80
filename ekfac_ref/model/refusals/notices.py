"""What a caller is told without an error, each once."""

import warnings
from collections.abc import Iterable


class Notices:
    """By short names: those that were given, or are not to be."""

    def __init__(self, given: Iterable[str] = ()) -> None:
        self._given = set(given)

    def __contains__(self, name: str) -> bool:
        """Whether there was one of this name."""
        return name in self._given

    def give(self, name: str, message: str) -> None:
        """A UserWarning, the first time that there is one of this name."""
        if name not in self:
            warnings.warn(message, stacklevel=2)
        self._given.add(name)
