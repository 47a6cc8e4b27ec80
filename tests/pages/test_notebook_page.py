"""docs/notebook.md says of every draw what it shows on one.

``test_docs`` runs the page. Here its own functions are taken from it and asked about other
networks, other data, other matrices.
"""

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.adapter import mean_loss, sum_loss
from ekfac_ref.examples import notebook, notebook_columns

PAGE = (Path(__file__).parents[2] / "docs" / "notebook.md").read_text()
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PROSE = FENCED.sub("", PAGE)
ASSIGNED = {"BEHAVIOUR", "NUMERIC", "ways", "ekfac", "weights_only"}


def _defined_on_the_page() -> SimpleNamespace:
    """Its imports, functions and classes, and the values above; nothing is run."""
    kept = [
        node
        for language, block in FENCED.findall(PAGE)
        if language == "python"
        for node in ast.parse(block).body
        if isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)
        or (isinstance(node, ast.Assign) and {ast.unparse(t) for t in node.targets} <= ASSIGNED)
    ]
    namespace: dict[str, object] = {"__name__": "page"}
    exec(compile(ast.Module(kept, []), "notebook.md", "exec"), namespace)
    return SimpleNamespace(**namespace)


page = _defined_on_the_page()
SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.tuples(st.integers(2, 4), st.integers(2, 5), st.integers(1, 3))
few = settings(max_examples=6)


def posed(seed: int, N: int, sizes: tuple[int, int, int]) -> ek.Problem:
    torch.manual_seed(seed)
    return page.posed(N, page.network(*sizes), sizes[:1], sizes[2:])


def test_no_cell_is_left_without_a_word() -> None:
    headings = "\n".join(re.findall(r"^## .*", PAGE, re.MULTILINE))
    cells = {int(n) for n in re.findall(r"\[(\d+)\]", headings)}
    for first, last in re.findall(r"\[(\d+)\]`-`\[(\d+)\]", headings):
        cells |= set(range(int(first), int(last)))
    assert cells == {1, 364, 361, 297, 298, 299, 300, 362, 363, 346}
    assert "the last cell" in headings  # which has no number


def test_results_are_in_blocks_that_run() -> None:
    assert re.findall(r"\d+\.\d+", PROSE) == []
    printed = "".join(text for language, text in FENCED.findall(PAGE) if language == "text")
    assert len(re.findall(r"\d+\.\d+", printed)) >= 10


def test_laws_are_named_as_in_the_lawbook() -> None:
    names = set(ct.LAWS)
    said = set(re.findall(r"laws?\s`([^`]+)`", PROSE))
    assert said == {"leaves alone", "kernel", "precondition"}
    others = {"trace", "doubled", "symmetry", "psd", "exactness"}
    basis = {"orthonormal basis", "eigenbasis", "eigenvalues"}
    assert others | basis <= set(re.findall(r"`([^`]+)`", PROSE))
    assert said | others | basis <= names


@few
@given(SEEDS, SIZES, st.integers(1, 8))
def test_before_any_matrix_is_made_the_class_is_right(
    seed: int, sizes: tuple[int, int, int], N: int
) -> None:
    assert page.broken(page.the_class(mean_loss), posed(seed, N, sizes)) == []


@few
@given(SEEDS, SIZES, st.integers(2, 8))
def test_a_summed_loss_is_n_times_too_large(seed: int, sizes: tuple[int, int, int], N: int) -> None:
    problem, subject = posed(seed, N, sizes), page.the_class(sum_loss)
    for name, E in ek.ekfac(problem).items():
        assert_close(subject.ekfac(problem)[name].trace(), N * E.trace())
    assert page.broken(subject, problem, ["trace", "doubled"]) == ["trace", "doubled"]


@few
@given(SEEDS, SIZES, st.integers(2, 8))
def test_the_kernel_sees_that_biases_are_left_out(
    seed: int, sizes: tuple[int, int, int], N: int
) -> None:
    d_in, H, d_out = sizes
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(d_in, H), nn.Sigmoid(), nn.Linear(H, d_out))
    problem = page.posed(N, model, (d_in,), (d_out,))
    assert page.broken(page.weights_only, problem, ["kernel"]) == ["kernel"]


@given(SEEDS, st.integers(1, 4), st.integers(1, 4), st.integers(1, 9))
def test_the_scalings_are_right_in_any_two_matrices(
    seed: int, d_in: int, d_out: int, N: int
) -> None:
    torch.manual_seed(seed)
    h, delta = torch.randn(N, d_in).double(), torch.randn(N, d_out).double()
    UA, UB = torch.randn(d_in, d_in).double(), torch.randn(d_out, d_out).double()
    G = [torch.outer(delta_n, h_n) for h_n, delta_n in zip(h, delta, strict=True)]
    assert_close(page.scalings(h, delta, UA, UB), sum((UB.T @ G_n @ UA) ** 2 for G_n in G) / N)


@few
@given(SEEDS, st.integers(2, 5), st.integers(2, 6))
def test_positions_are_no_samples(seed: int, N: int, T: int) -> None:
    torch.manual_seed(seed)
    tokens = page.posed(N, page.Tokens(), (T, 3), (2,))
    asked = ["trace", "eigenvalues"]
    assert page.broken(page.by_the_formula, tokens, asked) == ["trace", "eigenvalues"]
    single = page.posed(N, page.Tokens(), (1, 3), (2,))
    assert page.broken(page.by_the_formula, single, asked) == []


@few
@given(SEEDS, SIZES)
def test_preconditioning_takes_both_repairs(seed: int, sizes: tuple[int, int, int]) -> None:
    d_in, H, d_out = sizes
    problem = posed(seed, 12, (d_in, H + 1, d_out))  # an eigenbasis of 2 x 2 may be symmetric
    bases = ek.ekfac(problem)
    for what, way in page.ways.items():
        subject = ct.Subject(
            what,
            lambda problem: bases,
            precondition=lambda problem, gradients, damping, way=way: {
                name: way(g, bases[name].Q_A, bases[name].Q_B, bases[name].eigenvalues, damping)
                for name, g in gradients.items()
            },
        )
        wrong = ["precondition"] if what != "both" else []
        assert page.broken(subject, problem, ["precondition"]) == wrong
    E, g = bases["0"], torch.randn(bases["0"].shape).double()
    S = E.eigenvalues
    one, other = (page.ways["as written"](g, E.Q_A, Q_B, S, 0.1) for Q_B in (E.Q_B, -E.Q_B))
    assert (one * g).sum() * (other * g).sum() < 0  # one of them climbs
    assert (page.ways["both"](g, E.Q_A, E.Q_B, S, 0.1) * g).sum() > 0


@few
@given(SEEDS, SIZES, st.integers(3, 8))
def test_both_faces_of_the_order_of_kron(seed: int, sizes: tuple[int, int, int], N: int) -> None:
    single, many = posed(seed, 1, sizes), posed(seed, N, sizes)
    asked = ["symmetry", "psd", "trace", "commutes", "moments", "self-projection", "exactness"]
    as_read = {"commutes", "moments", "self-projection"}
    assert as_read <= set(page.broken(notebook, many, asked)) <= as_read | {"exactness"}
    assert "exactness" in page.broken(notebook, single, asked)
    assert page.broken(notebook_columns, single, asked) == []
    assert {"moments", "self-projection"} <= set(page.broken(notebook_columns, many, asked))
    famous = ["symmetry", "psd", "trace", "commutes"]
    assert page.broken(notebook_columns, many, famous) == []


def _error_of_one(x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """(error, sqrt(2 - 2 c^2)) of a single layer, a batch of one; its output gradient is f - y."""
    layer = nn.Linear(x.shape[1], y.shape[1], bias=False).double()
    problem = ek.Problem(layer, [(x, y)], ek.Gaussian(), ek.Empirical())
    F, E = ek.exact_fisher(problem)[""].dense(), notebook.ekfac(problem)[""].dense()
    h, delta = x[0], (layer(x) - y)[0].detach()
    c = torch.cosine_similarity(torch.kron(delta, h), torch.kron(h, delta), dim=0)
    return page.off(E, F), float((2 - 2 * c**2).clamp(min=0)) ** 0.5


@given(SEEDS, st.integers(1, 5), st.integers(1, 5))
def test_the_error_of_a_batch_of_one(seed: int, d_in: int, d_out: int) -> None:
    torch.manual_seed(seed)
    error, predicted = _error_of_one(torch.randn(1, d_in).double(), torch.randn(1, d_out).double())
    assert abs(error - predicted) < 1e-6  # the root of a rounding of 1
    assert error < 2**0.5 + 1e-12
    assert (error < 1e-12) == (1 in (d_in, d_out))


@pytest.mark.parametrize("d", [2, 3])
def test_the_error_hides_where_gradient_and_input_are_parallel(d: int) -> None:
    """The order cannot matter to h (x) h: no lower bound on the error holds."""
    x = torch.randn(1, d).double()
    layer = nn.Linear(d, d, bias=False).double()
    problem = ek.Problem(layer, [(x, (layer(x) - x).detach())], ek.Gaussian(), ek.Empirical())
    F, E = ek.exact_fisher(problem)[""].dense(), notebook.ekfac(problem)[""].dense()
    assert page.off(E, F) < 1e-12
