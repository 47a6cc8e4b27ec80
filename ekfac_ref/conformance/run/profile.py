"""How much is asked in a run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """How much is asked.

    Attributes:
        name: of the profile.
        problems: drawn.
        shrink_seconds: for each broken law, to find a smaller problem.
    """

    name: str
    problems: int
    shrink_seconds: float


PROFILES = {
    p.name: p
    for p in (Profile("demo", 12, 1.0), Profile("quick", 60, 3.0), Profile("full", 400, 20.0))
}
