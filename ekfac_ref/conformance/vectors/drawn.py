"""All vectors: every family under both sharings and three biases, and what is to be refused."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ekfac_ref.conformance.vectors.bare import Bare, BiasTreatment
from ekfac_ref.conformance.vectors.families import (
    FAMILIES_OF_VECTORS,
    BareData,
    BareFamily,
    Quarters,
    bare_generic,
    bare_masked,
)
from ekfac_ref.question.sharing import Expand, Reduce, Sharing

SHARINGS: dict[str, Sharing] = {"expand": Expand(), "reduce": Reduce()}
REFUSED = "refused"  # the name of what is no family: vectors without an answer
_SOMETIMES = 3  # of so many vectors with a bias, one has a use without it


def vectors_by_family() -> dict[str, list[Bare]]:
    """{family: its vectors}, in the order of the files."""
    found = {_name(family): list(_of_a_family(family)) for family in FAMILIES_OF_VECTORS}
    return {**found, REFUSED: list(_refused())}


def family_says(name: str) -> str:
    """What is special about the vectors of a family."""
    said = {_name(family): family.__doc__ or "" for family in FAMILIES_OF_VECTORS}
    return said.get(name, "What has no answer: a program is to end in an error, not in a number.")


def _name(family: BareFamily) -> str:
    return family.__name__.removeprefix("bare_").replace("_", "-")


def _of_a_family(family: BareFamily) -> Iterator[Bare]:
    number = 0
    for turn in range(FAMILIES_OF_VECTORS[family]):
        for sharing, how in SHARINGS.items():
            for bias in BiasTreatment:
                # Other numbers for every vector, so that no two answers are compared by chance.
                name = f"{_name(family)}-{turn}-{sharing}-{bias.value}"
                data = family(Quarters(name), turn)
                yield _vector(name, family.__doc__ or "", data, how, bias, number)
                number += 1


def _vector(
    name: str, says: str, data: BareData, sharing: Sharing, bias: BiasTreatment, number: int
) -> Bare:
    a, g, counted = data
    if bias is not BiasTreatment.NONE:
        ones = np.ones_like(a[..., :1])
        if a.shape[1] > 1 and number % _SOMETIMES == 2:
            ones[:, 0] = 0.0
            says = f"{says} The first position uses the weight without the bias."
        a = np.concatenate([a, ones], -1)
    return Bare(name, says, a, g, counted, sharing, bias)


def _refused() -> Iterator[Bare]:
    """Data that is none, and dampings that leave no inverse."""
    a, g, counted = bare_generic(Quarters("refused"), 1)
    plain = _vector("plain", "", (a, g, counted), Expand(), BiasTreatment.NONE, 0)
    padded = _vector(
        "padded", "", bare_masked(Quarters("refused, masked"), 0), Expand(), BiasTreatment.NONE, 0
    )

    def named(name: str, why: str, **changed: object) -> Bare:
        return replace(plain, name=f"refused-{name}", says=why, refused=why, **changed)  # type: ignore[arg-type]

    def with_(x: np.ndarray, number: float) -> np.ndarray:
        changed = x.copy()
        changed.flat[1] = number
        return changed

    yield named("nan-in-a", "an input is not a number", a=with_(a, np.nan))
    yield named("infinity-in-a", "an input is infinite", a=with_(a, -np.inf))
    yield named("nan-in-g", "an output gradient is not a number", g=with_(g, np.nan))
    yield named("infinity-in-g", "an output gradient is infinite", g=with_(g, np.inf))
    yield named("samples-differ", "a has a sample more than g", a=np.concatenate([a, a[:1]]))
    yield named("positions-differ", "g has a position fewer than a", g=g[:, :, 1:])
    yield named("mask-too-short", "the mask has a sample fewer than a", counted=counted[1:])
    yield named("mask-too-narrow", "the mask has a position fewer than a", counted=counted[:, 1:])
    yield named("no-samples", "there are no samples", a=a[:0], g=g[:0], counted=counted[:0])
    yield named("no-columns", "samples have no column", g=g[:, :0])
    yield named(
        "nothing-counts", "no position counts, and A is a mean over none", g=g * 0, counted=~counted
    )
    yield replace(
        padded,
        name="refused-gradient-at-padding",
        says="a position that does not count carries a gradient, so it does count",
        refused="a position that does not count carries a gradient, so it does count",
        g=padded.g + 1.0,
    )
    yield named("negative-damping", "a negative damping leaves no inverse that is positive",
                dampings=(-0.5,))  # fmt: skip
    yield named("nan-damping", "the damping is not a number", dampings=(float("nan"),))
    singular = replace(plain, a=np.repeat(a[:, :, :1], 2, 2))
    yield replace(
        named("no-damping", "the matrix is singular, and a damping of 0 leaves no inverse"),
        a=singular.a,
        dampings=(0.0,),
    )
