"""Answers of vectors: by loops over indices, and by the kit's own oracle in float64."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.eigengaps import GATE, gap
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.conformance.truth.tolerance import LIMIT, factor_scales, fisher_scale, length
from ekfac_ref.question.sharing import Expand, Reduce
from tests.independent import bare
from tests.vectors.conftest import cases

ANSWERED = [case for case in cases() if case["status"] != "refuse"]
# Every one is held to the example, too. Five goes into no number of sharings and biases.
IN_LOOPS, BY_ORACLE = ANSWERED[::5], [*ANSWERED[1::5], *ANSWERED[3::5]]
UNIT = 2.0**-52


def near(mine: Any, told: dict[str, Any], summands: int) -> bool:
    """To rounding, by the scale of the vector."""
    difference, scale = np.array(mine) - np.array(told["value"]), np.array(told["scale"])
    if scale.shape != difference.shape:
        difference = np.sqrt((difference.reshape(max(scale.size, 1), -1) ** 2).sum(1))
        difference = difference.reshape(scale.shape)
    return bool((np.abs(difference) <= LIMIT * summands * UNIT * scale).all())


@pytest.mark.parametrize("case", IN_LOOPS, ids=lambda case: case["id"])
def test_by_loops_over_indices(case: dict[str, Any]) -> None:
    for block in case["blocks"]:
        told, n = block["answers"], block["length"]
        first, last = block["columns"]
        a = [[row[first:last] for row in a_n] for a_n in case["a"]]
        G = bare.gradients(a, case["g"], case["counted"])
        B, A = bare.factors(a, case["g"], case["counted"], case["sharing"])
        F = bare.fisher(G, len(a))
        assert near(B, told["B"], n)
        assert near(A, told["A"], n)
        assert near(F, told["F"], n)
        assert near(sum(F[i][i] for i in range(len(F))), told["trace"], n)
        assert near(bare.kronecker(B, A), told["KFAC"], n)
        moments = [
            [
                bare.trace_of_product(F, bare.kronecker(bare.power(B, p), bare.power(A, q)))
                for q in range(3)
            ]
            for p in range(3)
        ]
        assert near(moments, told["moments"], n)
        Q_B, Q_A, V = block["Q_B"], block["Q_A"], block["V"]
        Lambda = bare.eigenvalues(G, Q_B, Q_A, len(a))
        assert near(Lambda, told["Lambda"], n)
        assert near(bare.in_basis(Q_B, Q_A, V, Lambda), told["Lambda product"], n)
        inverse = [[[1 / (x + d) for x in row] for row in Lambda] for d in block["dampings"]]
        solutions = [bare.in_basis(Q_B, Q_A, V, by) for by in inverse]
        assert near(solutions, told["Lambda solve"], n)
        _solved(block, {"F": F, "KFAC": bare.kronecker(B, A), "E": told["E"].get("value")})


def _solved(block: dict[str, Any], matrices: dict[str, Any]) -> None:
    """(M + damping I) x = V to a few roundings of the terms, by the matrix at hand."""
    v = [x for row in block["V"] for x in row]
    for name, M in matrices.items():
        if M is None:
            assert block["answers"][f"{name} solve"]["status"] == "undetermined"
            continue
        solutions = block["answers"][f"{name} solve"]["value"]
        for damping, solution in zip(block["dampings"], solutions, strict=True):
            x = [y for row in solution for y in row]
            size = (np.abs(np.array(M)).sum() + damping) * max(map(abs, x))
            Mx = bare.product(M, x)
            for i in range(len(x)):
                assert abs(Mx[i] + damping * x[i] - v[i]) <= 10 * len(x) * UNIT * size


def observed(case: dict[str, Any], block: dict[str, Any]) -> Observation:
    """What the kit would have seen of the block."""
    first, last = block["columns"]
    a = torch.tensor(case["a"], dtype=torch.float64)[:, :, first:last]
    g = torch.tensor(case["g"], dtype=torch.float64)
    counted = torch.tensor(case["counted"])
    G = torch.einsum("ncto,nti->ncoi", g, a * counted[..., None])
    return Observation(
        list(a),
        list(g),
        list(counted),
        list(G),
        Expand() if case["sharing"] == "expand" else Reduce(),
        torch.float64,
        [0] * len(a),
        [torch.zeros(a.shape[1]).double()] * len(a),
        [g_n.norm(dim=(0, 2)) for g_n in g],
    )


@pytest.mark.parametrize("case", BY_ORACLE, ids=lambda case: case["id"])
def test_by_the_oracle(case: dict[str, Any]) -> None:
    for block in case["blocks"]:
        seen, told, n = observed(case, block), block["answers"], block["length"]
        B, A = oracle.factors(seen)
        Q_B = torch.tensor(block["Q_B"], dtype=torch.float64)
        Q_A = torch.tensor(block["Q_A"], dtype=torch.float64)
        found: dict[str, Tensor] = {
            "A": A,
            "B": B,
            "F": oracle.fisher(seen),
            "KFAC": torch.kron(B, A),
            "Lambda": oracle.eigenvalues(seen, Q_B, Q_A),
        }
        if told["E"]["status"] == "valid":
            found["E"] = oracle.ekfac_matrix(seen)
        for name, M in found.items():
            assert near(M.tolist(), told[name], n), (block["name"], name)
        assert n == length(seen)
        # The kit's bounds are of all positions, those of vectors of the ones that count.
        a_counted = [x * on[:, None] for x, on in zip(seen.a, seen.counted, strict=True)]
        seen = replace(seen, a=a_counted)
        if gap(seen) >= GATE:
            assert told["E"]["status"] == "valid"
            assert told["E"]["eigengap"] == pytest.approx(gap(seen), rel=1e-3)
        b, a = factor_scales(seen)
        assert told["A"]["scale"] == pytest.approx(a, rel=1e-3, abs=1e-290)
        assert told["B"]["scale"] == pytest.approx(b, rel=1e-3, abs=1e-290)
        assert told["F"]["scale"] == pytest.approx(fisher_scale(seen), rel=1e-3, abs=1e-290)


@pytest.mark.parametrize(
    "case", [c for c in ANSWERED if c["status"] == "undetermined"], ids=lambda case: case["id"]
)
def test_what_is_undetermined_depends_on_the_basis(case: dict[str, Any]) -> None:
    """Another right basis, turned where eigenvalues coincide, gives another E."""
    apart = []
    for block in case["blocks"]:
        if block["answers"]["E"]["status"] == "valid":
            continue
        seen = observed(case, block)
        pairs = list(zip(oracle.factors(seen), factor_scales(seen), strict=True))
        bases = [[_basis(*pair, turned) for pair in pairs] for turned in (False, True)]
        one, other = (_assembled(seen, *pair) for pair in bases)
        apart.append(float((one - other).norm() / one.norm()))
        moments = block["answers"]["moments"]
        for E in (one, other):
            assert near(float(E.trace()), block["answers"]["trace"], block["length"])
            mine = float((E * torch.kron(*oracle.factors(seen))).sum())
            told = {name: moments[name][1][1] for name in ("value", "scale")}
            assert near(mine, told, block["length"])
    assert min(apart) > 1e-3


def _basis(M: Tensor, bound: float, turned: bool) -> Tensor:
    """Eigenvectors; those of neighbours that coincide turned by half
    a right angle."""
    w, Q = torch.linalg.eigh(M)
    if turned:
        for k in range(len(w) - 1):
            if (w[k + 1] - w[k]) / bound < 1e-12:
                p, q = Q[:, k].clone(), Q[:, k + 1].clone()
                Q[:, k], Q[:, k + 1] = (p - q) / 2**0.5, (p + q) / 2**0.5
    return Q


def _assembled(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    Q = torch.kron(Q_B, Q_A)
    return Q @ torch.diag(oracle.eigenvalues(seen, Q_B, Q_A).reshape(-1)) @ Q.T
