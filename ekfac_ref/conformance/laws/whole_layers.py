r"""What is said of a layer of several blocks as a whole: groups, or the weight and the bias apart.

Block by block, with zeros elsewhere, nobody sees what one block puts into another; nor what the
operator of the layer does, where it shows its blocks.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

from ekfac_ref.conformance.declared.damping import Factored
from ekfac_ref.conformance.laws.damped import solves_factored
from ekfac_ref.conformance.laws.law import Law, Ratios, each, named
from ekfac_ref.conformance.subjects.answered import Answered
from ekfac_ref.conformance.subjects.definition import Block
from ekfac_ref.conformance.subjects.own import Together
from ekfac_ref.conformance.subjects.preconditioned import Solved
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.tolerance import (
    block_scale,
    bounded,
    fisher_scale,
    length,
    own_scale,
)

_Blocks = list[tuple[Block, Answered]]


def and_of_layers(law: Law, ask: Callable[[Together, _Blocks], Ratios]) -> Law:
    """A law of a block that has something to say of the operators of whole layers, too."""

    def both(trial: Trial) -> Iterator[float]:
        parts = (_named(ask, whole, blocks) for whole, blocks in _layers(trial))
        return each([law.ask(trial), *parts])

    return replace(law, ask=both)


def _named(
    ask: Callable[[Together, _Blocks], Ratios], whole: Together, blocks: _Blocks
) -> Iterator[float]:
    with named(f"{blocks[0][1].way}, all blocks of layer {whole.own.layer!r} at once"):
        yield from ask(whole, blocks)


def _layers(trial: Trial) -> Iterator[tuple[Together, _Blocks]]:
    """Every operator of a layer that has several blocks, and those."""
    cases = iter(trial.cases)
    for blocks in trial.blocks.values():
        of_layer = [case.operators for case in islice(cases, len(blocks))]
        for answered in zip(*of_layer, strict=True):
            whole = answered[0].own.together
            if whole is not None:
                yield whole, list(zip(blocks, answered, strict=True))


def multiplies_layer(whole: Together, blocks: _Blocks) -> Iterator[float]:
    """M V is the product of every block with its own part of V."""
    product = whole.product.double()
    scale = _size(blocks) * float(whole.V.double().norm())
    for block, M in blocks:
        residual = block.of(product) - M.product(block.of(whole.V))
        yield bounded("M V", residual, scale, M.seen)


def solving_layers(damping: float) -> Callable[[Together, _Blocks], Ratios]:
    """(M + damping I) x = V, of all blocks at once."""

    def ask(whole: Together, blocks: _Blocks) -> Iterator[float]:
        if whole.own.solves and all(M.own.solves for _, M in blocks):
            x = whole.own.solve(whole.V.clone(), damping=damping).double()
            yield from solves_layer("solve", blocks, Solved(damping, whole.V.double(), x, x))

    return ask


def solves_layer(method: str, blocks: _Blocks, solved: Solved) -> Iterator[float]:
    """A backward error of the layer as a whole: it may have been solved as one system."""
    if isinstance(blocks[0][1].damping, Factored):
        for block, M in blocks:
            x, V = block.of(solved.x), block.of(solved.V)
            ratio = solves_factored(M.seen, x, V, solved.damping)
            if ratio is not None:
                yield ratio
        return
    residual = solved.damping * solved.x - solved.V
    for block, M in blocks:
        block.of(residual).add_(M.product(block.of(solved.x)))
    seen = [block.seen for block, _ in blocks]
    scale = (_size(blocks) + solved.damping) * float(solved.x.norm())
    symbol = {"ekfac": "E", "kfac": "K"}.get(blocks[0][1].way, "F")
    law = f"({symbol} + {solved.damping:g} I) {method}(V) = V"
    yield bounded(law, residual, scale, seen[0], max(map(length, seen)))


def _size(blocks: _Blocks) -> float:
    """A bound on the terms of the largest block."""
    return max(own_scale(M.matrix, _terms(M)) for _, M in blocks)


def _terms(M: Answered) -> float:
    return fisher_scale(M.seen) if M.way == "ekfac" else block_scale(M.seen)
