"""Every law that a subject is asked, with its lane, its statement and its source."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ekfac_ref.conformance.laws import of_a_case as case_laws
from ekfac_ref.conformance.laws import of_a_matrix as laws
from ekfac_ref.conformance.laws.law import (
    Lane,
    Law,
    leaves_alone,
    no_memory,
    of_each_block,
    preconditions,
    refused,
    unchanged_by,
)
from ekfac_ref.conformance.laws.replays import above_noise
from ekfac_ref.conformance.problems import changed as changes
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.subjects.trial import Case
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.matrix.operators import Dense, EigenKronecker
from ekfac_ref.question.columns import Exact
from ekfac_ref.question.problem import Problem

CaseLaw = Callable[[Case], float | None]


def _of_a_case(lane: Lane, name: str, statement: str, source: str, law: CaseLaw) -> Law:
    return Law(name, lane, statement, source, of_each_block(lane, law))


def _of_its_matrix(
    name: str, statement: str, source: str, law: Callable[[Dense, Observation], float]
) -> Law:
    return _of_a_case(Lane.OPAQUE, name, statement, source, lambda case: law(case.E, case.seen))


def _of_its_basis(
    name: str, statement: str, law: Callable[[EigenKronecker, Observation], float]
) -> Law:
    return _of_a_case(Lane.BASIS, name, statement, _GEORGE, lambda case: law(case.own, case.seen))


def _of_a_change(
    name: str,
    statement: str,
    change: Callable[[Problem], Problem],
    applies: Callable[[Problem], bool] = lambda problem: True,
    fits: Callable[[Abilities], bool] = lambda abilities: True,
) -> Law:
    source = "F, A and B are means over samples and positions"
    return Law(name, Lane.OPAQUE, statement, source, unchanged_by(change, applies), fits)


def _of_a_refusal(name: str, statement: str, change: Callable[[Problem], Problem]) -> Law:
    source = "a wrong number is worse than none"
    return Law(name, Lane.OPAQUE, statement, source, refused(change), measures=False)


_GEORGE, _MARTENS = "George et al. 2018 (1806.03884)", "Martens & Grosse 2015 (1503.05671)"
_ALGEBRA, _DEFINITION = "linear algebra, derived in docs/laws.md", "by definition"

_LAWS: tuple[Law, ...] = (
    _of_a_case(
        Lane.OPAQUE,
        "linear",
        "matvec(V) = sum_oi V_oi matvec(e_o e_i^T)",
        _DEFINITION,
        case_laws.linear,
    ),
    Law(
        "own answers",
        Lane.OPAQUE,
        "matvec(V) and solve(V) leave V alone, and the next answer leaves this one alone",
        _DEFINITION,
        of_each_block(Lane.OPAQUE, case_laws.keeps_to_itself),
        measures=False,
    ),
    _of_its_matrix("symmetry", "M = M^T", "F is a sum of v v^T", laws.symmetry),
    _of_its_matrix("psd", "v^T M v >= 0", "F is a sum of v v^T", laws.psd),
    _of_its_matrix("trace", "tr E = tr F = (1/N) sum_nc |G_nc|^2", _GEORGE, laws.trace),
    _of_its_matrix(
        "commutes",
        "E (B (x) I) = (B (x) I) E and E (I (x) A) = (I (x) A) E",
        _ALGEBRA,
        laws.commutes_with_factors,
    ),
    _of_its_matrix(
        "moments",
        "tr E (B^p (x) A^q) = tr F (B^p (x) A^q), p and q up to 2",
        _ALGEBRA,
        laws.moments,
    ),
    _of_its_matrix("self-projection", "tr E F = |E|^2", _ALGEBRA, laws.projects_onto_itself),
    _of_a_case(
        Lane.OPAQUE,
        "pythagoras",
        "|F - K|^2 = |F - E|^2 + |E - K|^2 for KFAC's K, hence |F - E| <= |F - K|",
        _GEORGE,
        case_laws.pythagoras,
    ),
    _of_its_matrix(
        "majorisation",
        "the k largest eigenvalues of E sum to at most those of F, for every k",
        "Schur 1923",
        laws.spectrum_is_majorised,
    ),
    _of_a_case(Lane.OPAQUE, "kernel", "E v = 0 implies F v = 0", _ALGEBRA, case_laws.kernel),
    _of_a_case(
        Lane.OPAQUE,
        "exactness",
        "where B (x) A = F (a batch of one, say), E = F",
        _MARTENS,
        case_laws.exact_where_kfac_is,
    ),
    _of_a_case(
        Lane.OPAQUE,
        "comparison",
        "E = Q diag(diag(Q^T F Q)) Q^T, where the eigengaps of A and B leave one Q",
        _GEORGE,
        case_laws.comparison,
    ),
    _of_a_change("recut", "the cut into batches changes nothing", changes.recut),
    _of_a_change("order", "the order of the samples changes nothing", changes.in_reverse),
    _of_a_change("doubled", "every sample twice changes nothing", changes.doubled),
    _of_a_change(
        "labels",
        "the values of the labels change nothing under the exact Fisher",
        changes.other_labels,
        lambda problem: isinstance(problem.fisher, Exact),
        lambda abilities: Exact in abilities.fishers,
    ),
    _of_a_change(
        "padding",
        "what stands at positions that the mask leaves out changes nothing",
        changes.padded,
        lambda problem: problem.mask is not None,
        lambda abilities: abilities.masks and abilities.positions,
    ),
    Law(
        "no memory",
        Lane.OPAQUE,
        "the same problem again, after another one: the same bits",
        _DEFINITION,
        no_memory,
        measures=False,
    ),
    Law(
        "leaves alone",
        Lane.OPAQUE,
        "model, data, gradients, flags, buffers, hooks and random states are as they were before",
        "a question changes nothing",
        leaves_alone,
        measures=False,
    ),
    _of_a_refusal("nan", "NaN in the data raises an exception", changes.with_nan),
    _of_a_refusal(
        "unknown layer",
        "the name of a layer that the model does not have raises an exception",
        changes.with_an_unknown_layer,
    ),
    _of_a_refusal(
        "batch norm",
        "BatchNorm in train mode raises an exception: there are no per-sample gradients",
        changes.with_batch_norm,
    ),
    _of_its_basis(
        "orthonormal basis", "Q_A^T Q_A = I and Q_B^T Q_B = I", laws.basis_is_orthonormal
    ),
    _of_its_basis(
        "eigenbasis",
        "Q_A^T A Q_A and Q_B^T B Q_B are diagonal, and nothing of A or B is outside a thin basis",
        laws.basis_diagonalizes_the_factors,
    ),
    _of_its_basis(
        "eigenvalues",
        "Lambda_oi = (1/N) sum_nc [Q_B^T G_nc Q_A]_oi^2 in the subject's own basis",
        laws.eigenvalues_are_the_diagonal,
    ),
    *(
        _of_a_case(
            Lane.SOLVE,
            f"solve {damping:g}",
            f"(E + {damping:g} I) x = v for x = solve(v), the same twice, <v, x> > 0",
            "docs/reading.md",
            case_laws.solves(damping),
        )
        for damping in (1e-6, 1.0)
    ),
    _of_a_case(
        Lane.KFAC, "kfac", "K = B (x) A by the factors' definitions", _MARTENS, case_laws.kfac
    ),
    _of_a_case(
        Lane.FISHER,
        "exact block",
        "F = (1/N) sum_nc vec(G_nc) vec(G_nc)^T",
        _DEFINITION,
        case_laws.exact_block,
    ),
    Law(
        "precondition",
        Lane.PRECONDITION,
        "(E + d I) x = v for x = precondition(v), d = 1e-06 and 1, and the same bits twice",
        "by definition, E as the subject's own",
        preconditions,
    ),
)

LAWS: Mapping[str, Law] = MappingProxyType({law.name: above_noise(law) for law in _LAWS})
