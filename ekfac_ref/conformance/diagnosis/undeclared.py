"""Which convention a subject has and does not declare: the likeliest mistake of an adapter.

Its matrices are put into the kit's order and scale by every convention in turn. The one that makes
them right is what should have been declared.
"""

from collections.abc import Callable
from itertools import product

from torch import Tensor

from ekfac_ref.conformance.adapter.conventions import (
    SCALES,
    Bias,
    Layout,
    Scale,
    bias_behind,
    bias_first,
    bias_last,
    columns,
    rows,
    unit,
)
from ekfac_ref.conformance.diagnosis.comparable import Question
from ekfac_ref.conformance.diagnosis.comparison import Comparison, relative
from ekfac_ref.conformance.diagnosis.quantity import INVERTED, Blocks
from ekfac_ref.conformance.subjects.definition import Definition
from ekfac_ref.conformance.truth.eigengaps import gap_with_zeros
from ekfac_ref.model.layers_of import layers_of

_VEC: tuple[tuple[str, Layout], ...] = (("", rows), ("vec=columns", columns))
_BIAS: tuple[tuple[str, Bias], ...] = (
    ("", bias_last),
    ("bias=bias_first", bias_first),
    ("bias=bias_behind", bias_behind),
)
_SCALE: tuple[tuple[str, Scale], ...] = (
    ("", unit),
    *((f"scale={name}", scale) for name, scale in SCALES.items()),
)


def undeclared(subject: list[Comparison]) -> str:
    """The Convention, as it is written, with which all the answers would be right; "" if none is.

    The fewest words win, so that a subject that is right as it stands gets "", too.
    """
    quantity = subject[0].question.quantity
    if quantity.way == "fisher_product":  # it is not written out
        return ""
    if quantity.inverted is not None and (damping := _damping(subject)):
        return damping
    ways = sorted(product(_SCALE, _VEC, _BIAS), key=lambda way: sum(bool(one[0]) for one in way))
    for way in ways:
        (_, scale), (_, vec), (_, bias) = way
        if all(_is_right(one, scale, vec, bias) for one in subject):
            words = ", ".join(word for word, _ in way if word)
            return f"Convention({words})" if words else ""
    return ""


def _damping(subject: list[Comparison]) -> str:
    """A Definition likewise, of what is inverted, and how that is damped."""
    for how, correct in INVERTED.items():
        if not isinstance(subject[0].question.quantity.inverted, how) and all(
            _inverts(one, correct) for one in subject
        ):
            return f"Definition(damping={how.__name__}())"
    return ""


def _inverts(one: Comparison, correct: Callable[[Blocks], list[Tensor]]) -> bool:
    question = one.question
    every = correct(Definition().blocks(question.problem, question.seen))
    return all(
        relative(x, every[row]) <= question.precision.fits
        for x, row, seen in zip(one.given, question.rows, question.compared, strict=True)
        if every[row].numel() and gap_with_zeros(seen) >= question.precision.gap
    )


def _is_right(one: Comparison, scale: Scale, vec: Layout, bias: Bias) -> bool:
    question = one.question
    factor, biased = scale(question.problem), _biased(question)
    for row, shape, given, right in zip(
        question.rows, question.shapes, one.given, question.correct, strict=True
    ):
        place = (bias if biased[row] else bias_last)(vec, *shape).reshape(-1)
        if relative(given[place][:, place] / factor, right) > question.precision.fits:
            return False
    return True


def _biased(question: Question) -> list[bool]:
    """Of every row that could be compared, whether its layer has a bias."""
    found = layers_of(question.problem)
    with_bias = {layer.name for layer in found if layer.bias is not None}
    return [layer in with_bias for layer, groups in question.seen.items() for _ in groups]
