"""What a subject prints, as far as there is room for it."""

import io

PRINTED = 100_000  # characters of what a subject prints in all that are kept


class Kept(io.StringIO):
    """A stream that keeps so many characters, and counts those that come after them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._left, self._more = size, 0

    def write(self, text: str) -> int:
        """Keep as much of the text as there is room for."""
        kept = text[: self._left]
        self._left -= len(kept)
        self._more += len(text) - len(kept)
        super().write(kept)
        return len(text)

    def __str__(self) -> str:
        more = f"\n[... {self._more:,} more characters ...]\n" if self._more else ""
        return self.getvalue() + more
