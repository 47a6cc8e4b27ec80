"""The catalogue's mistakes made again by hand, each in one to three lines, in the example of hooks.

Nothing of the catalogue is used to make them. Where a mistake has a size, like a floor of 1e-3 or a
decay of 0.9, it is the catalogue's: with another one it would be another matrix.
"""

from ekfac_ref.conformance.adapter import adapted
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.examples import hooks
from tests.kit.remade.bases import BASIS
from tests.kit.remade.hooked import Recipe
from tests.kit.remade.labels import LABELS
from tests.kit.remade.lambdas import EIGENVALUES
from tests.kit.remade.losses import LOSSES
from tests.kit.remade.products import PRODUCTS
from tests.kit.remade.samples import INPUTS, SAMPLES
from tests.kit.remade.scale import SCALE

REMADE: dict[str, Recipe] = {
    **SCALE,
    **EIGENVALUES,
    **BASIS,
    **PRODUCTS,
    **SAMPLES,
    **INPUTS,
    **LABELS,
    **LOSSES,
}


def subject(name: str) -> Subject:
    """The example of hooks with a mistake, or "correct"."""
    recipe = Recipe() if name == "correct" else REMADE[name]
    return Subject(f"hooks, {name}", adapted(recipe), abilities=hooks.abilities)
