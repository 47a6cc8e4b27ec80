"""Whether what is right fits into memory: told before it is computed, and a process is killed."""

from collections.abc import Sequence

from ekfac_ref.conformance.own_model.measured.parts import OwnPart
from ekfac_ref.conformance.truth.room import gigabytes, memory
from ekfac_ref.errors import ProblemError

# Square matrices in float64 that are there at once of a factor, at the least: its sum, itself, its
# eigenvectors, the angles by which they turn, and two of a replay.
MATRICES = 6


def check_room(parts: Sequence[OwnPart]) -> None:
    """Raise a ProblemError where the factors of all parts take more memory than there is."""
    needed = {part.title: MATRICES * 8 * sum(d**2 for d in part.shape) for part in parts}
    total, there = sum(needed.values()), memory()
    if total <= there:
        return
    largest = max(parts, key=lambda part: needed[part.title])
    d_out, d_in = largest.shape
    raise ProblemError(
        f"layers: what is right takes at least {gigabytes(total)} of memory, and this machine has "
        f"{gigabytes(there)}: {MATRICES} matrices d_in x d_in and as many d_out x d_out of every "
        f"block. The largest are those of {largest.title!r}, d_in = {d_in:,} and d_out = {d_out:,};"
        " leave it out, by naming others in Problem(layers=...), a few of each kind, or ask about "
        "a narrower model of the same kind, with fewer words."
    )
