r"""What another program says of itself, in a file beside the manifest: its name, what it declines.

{"name": "ours", "declines": ["groups"], "bias": "separate", "A": "shared"}
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ekfac_ref.conformance.offline.contents import contents
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.subjects.definition import (
    Definition,
    Joint,
    PerGroup,
    Separate,
    Shared,
)
from ekfac_ref.errors import ProblemError, no_such

DECLARED_FILE = "declared.json"
_BIAS: dict[str, Joint | Separate] = {"joint": Joint(), "separate": Separate()}
_A: dict[str, PerGroup | Shared] = {"per group": PerGroup(), "shared": Shared()}


@dataclass(frozen=True)
class Declared:
    """What is declared; by default, nothing.

    Attributes:
        name: how reports call it.
        declines: names of features that it refuses on purpose.
        masks: whether it can do position masks; where not, no law asks about them.
        definition: which EKFAC it is.
    """

    name: str = "answers"
    declines: tuple[str, ...] = ()
    masks: bool = True
    definition: Definition = field(default_factory=Definition)

    @classmethod
    def read(cls, folder: Path) -> "Declared":
        """From a folder, or the default where it has no such file; ProblemError if it is none."""
        path = folder / DECLARED_FILE
        if not path.exists():
            return cls()
        try:
            told: Any = json.loads(contents(path).decode("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ProblemError(f"{path} cannot be read ({error}); write it anew.") from None
        known = {"name": str, "declines": list, "masks": bool, "bias": str, "A": str}
        if not isinstance(told, dict):
            raise ProblemError(f"{path}: a {type(told).__name__}; write an object with {[*known]}.")
        for name, value in told.items():
            if name not in known:
                raise no_such(f"{path}", name, known)
            if not isinstance(value, known[name]):
                raise ProblemError(f"{path}: {name} is {value!r}; write a {known[name].__name__}.")
        declines = tuple(map(str, told.get("declines", ())))
        Abilities(declines=declines)  # which knows all names
        bias, A = told.get("bias", "joint"), told.get("A", "per group")
        if bias not in _BIAS:
            raise no_such(f"{path}, bias", bias, _BIAS)
        if A not in _A:
            raise no_such(f"{path}, A", A, _A)
        definition = Definition(_BIAS[bias], _A[A])
        return cls(told.get("name", cls.name), declines, told.get("masks", True), definition)

    def abilities(self, layers: Collection[str]) -> Abilities:
        """What its problems are drawn for: these kinds of layers, and everything else."""
        kinds = tuple(kind for kind in Abilities().layers if kind.__name__ in layers)
        return Abilities(layers=kinds, masks=self.masks, declines=self.declines)
