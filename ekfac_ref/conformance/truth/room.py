"""How much memory there is: asked before what takes more is begun, and a process is killed."""

import os

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.layers_of import layers_of
from ekfac_ref.question.problem import Problem

# Matrices P x P in float64 that are there at once of a block, at the least: of the answer, of F, of
# what E is to be, and a residual.
WRITTEN_DOWN = 4


def check_written_down(problem: Problem) -> None:
    """Raise a ProblemError where the matrices P x P of some block take more than there is."""
    for layer in layers_of(problem):
        P = layer.shape[0] // layer.groups * layer.shape[1]
        if memory() < WRITTEN_DOWN * 8 * P**2:
            raise ProblemError(
                f"layers: {layer.name!r} has {P:,} parameters, and of every block matrices P x P "
                f"are written down here, each of {gigabytes(8 * P**2)}; ask by check_on(subject, "
                "problem), which takes products with a few vectors, or leave the layer out by "
                "naming others in Problem(layers=...)."
            )


def check_outputs_written_down(N: int, K: int) -> None:
    """Raise a ProblemError where K x K numbers for each of N samples, of K outputs, do not fit."""
    if memory() < 8 * N * K**2:
        raise ProblemError(
            f"outputs: a sample has {K:,}, and {K:,} x {K:,} numbers of each are written down here;"
            " ask by check_on(subject, problem), which does not, or about a narrower model of the "
            "same kind, with fewer words or positions."
        )


def memory() -> int:
    """Bytes that the machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def gigabytes(number: int) -> str:
    """A number of bytes as it is written in a sentence."""
    return f"{number / 2**30:,.0f} GB"
