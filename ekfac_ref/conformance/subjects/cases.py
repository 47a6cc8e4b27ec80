"""A subject's answers to one problem, taken apart into blocks."""

from typing import Any

from torch import Tensor

from ekfac_ref.conformance.declared.damping import Damping, Tikhonov
from ekfac_ref.conformance.subjects.answered import Case, answered_blocks
from ekfac_ref.conformance.subjects.definition import Block, titles
from ekfac_ref.conformance.subjects.matrices import entries
from ekfac_ref.conformance.subjects.preconditioned import Preconditioned, inverted_ekfac
from ekfac_ref.conformance.subjects.subject import OPERATORS, Answer

_Blocks = dict[str, list[Block]]  # {layer: its blocks}


def of_diagonals(blocks: _Blocks, diagonals: dict[str, Tensor]) -> list[Case]:
    """Cases with the diagonal of F, for layers that have one."""
    return [
        Case(title, block.seen, diagonal=None if D is None else block.of(D))
        for name, of_layer in blocks.items()
        for D in [diagonals.get(name)]
        for title, block in zip(titles(name, of_layer), of_layer, strict=True)
    ]


def of_operators(blocks: _Blocks, asked: dict[str, Answer], damping: Damping) -> list[Case]:
    """Cases with E, K and F, where they were asked for; the ``damping`` is that of KFAC."""
    return [
        case
        for name, of_layer in blocks.items()
        for case in _of_layer(name, of_layer, {way: of[name] for way, of in asked.items()}, damping)
    ]


def _of_layer(
    name: str, blocks: list[Block], operators: dict[str, Any], damping: Damping
) -> list[Case]:
    by_way = {
        way: answered_blocks(way, name, operator, blocks, damping if way == "kfac" else Tikhonov())
        for way, operator in operators.items()
    }
    none: list[None] = [None] * len(blocks)
    columns = (by_way.get(way, none) for way in OPERATORS)
    rows = zip(titles(name, blocks), blocks, *columns, strict=True)
    return [Case(title, block.seen, *several) for title, block, *several in rows]


def of_inverses(blocks: _Blocks, P: Preconditioned, damping: Damping) -> list[Case]:
    """Cases with E = P^-1 - d I, where P is written out, positive, and of an EKFAC."""
    cases = []
    matrices = P.matrices if isinstance(damping, Tikhonov) else None
    for name, of_layer in blocks.items():
        whole = None if matrices is None else matrices[name]
        rows = zip(titles(name, of_layer), of_layer, entries(of_layer), strict=True)
        for title, block, of in rows:
            M = None if whole is None else whole[of][:, of]
            E = None if M is None else inverted_ekfac(M, block.seen, P.damping)
            cases.append(Case(title, block.seen, inverted=E))
    return cases
