"""The examples get the verdicts they are there for, and every convention can be declared."""

import ast
import importlib
import inspect
from dataclasses import replace

import pytest
import torch
from torch import nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance import adapter
from ekfac_ref.conformance.adapter import Convention, Eigen, Factors, Matrix, adapted
from ekfac_ref.conformance.problems.draw import families_for
from ekfac_ref.conformance.problems.families import rows as families
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.examples import hooks, notebook, notebook_columns, reference

HOOKS = importlib.import_module("ekfac_ref.examples.hooks")
NOTEBOOK = importlib.import_module("ekfac_ref.examples.notebook")
FEW = ct.Profile("few", 4, 0.0)
NOTICED_BY_FEW = {"linear", "symmetry", "psd", "trace", "no memory"}


def broken(report: ct.Report) -> set[str]:
    return {v.law.name for v in report.verdicts if v.status is ct.Status.FAIL}


@pytest.mark.parametrize("subject", [reference, hooks], ids=lambda s: s.name)
def test_what_is_right_conforms(subject: ct.Subject) -> None:
    report = ct.check(subject, "demo")
    assert report.exit_code == 0, report.summary


@pytest.mark.parametrize("name", ["reference", "hooks", "notebook", "notebook_columns"])
def test_examples_are_found_by_name(name: str) -> None:
    found = ct.load(f"ekfac_ref.examples:{name}")
    assert isinstance(found, ct.Subject)
    assert found is getattr(importlib.import_module("ekfac_ref.examples"), name)


def test_the_adapter_of_hooks_has_at_most_ten_lines() -> None:
    source = inspect.getsource(HOOKS)
    _, region = source.split("# The adapter, all of it.")
    first = source[: len(source) - len(region)].count("\n") + 1
    statements = [node for node in ast.parse(source).body if node.lineno > first]
    assert {type(node) for node in statements} == {ast.FunctionDef, ast.Assign}
    assert sum((node.end_lineno or 0) - node.lineno + 1 for node in statements) <= 10


def test_the_notebook_as_its_author_read_it() -> None:
    """A wrong basis: whatever asks about the basis breaks, and the famous laws do not."""
    report = ct.check(notebook, FEW)
    assert [trouble.what for trouble in [*report.troubles, *report.refused]] == []
    assert report.exit_code == 1
    assert {"commutes", "moments", "self-projection", "comparison"} <= broken(report)
    assert not broken(report) & NOTICED_BY_FEW


def test_the_notebook_read_by_columns() -> None:
    """The right basis with its eigenvalues in the wrong order."""
    report = ct.check(notebook_columns, FEW)
    assert [trouble.what for trouble in [*report.troubles, *report.refused]] == []
    assert report.exit_code == 1
    assert {"moments", "self-projection", "comparison"} <= broken(report)
    passed = {v.law.name for v in report.verdicts if v.status is ct.Status.PASS}
    assert NOTICED_BY_FEW | {"commutes", "majorisation"} <= passed


def small_problem(bias: bool = True, **choices: ek.Expand | ek.Reduce | ek.Empirical) -> ek.Problem:
    layers = (nn.Linear(3, 2, bias=bias), nn.Tanh(), nn.Linear(2, 2, bias=bias))
    x, y = torch.randn(7, 3).double(), torch.randn(7, 2).double()
    batches = [(x[:4], y[:4]), (x[4:], y[4:])]
    return ek.Problem(nn.Sequential(*layers).double(), batches, ek.Gaussian(), **choices)


def test_the_notebook_leaves_a_bias_out_without_a_word() -> None:
    model = small_problem().model
    its = NOTEBOOK.NotebookEKFAC(model)
    nn.MSELoss()(model(torch.randn(4, 3).double()), torch.zeros(4, 2).double()).backward()
    its.step()
    assert [len(matrix) for matrix in its.approximate_Fisher_matrix()] == [2 * 3, 2 * 2]

    biased = replace(notebook, abilities=replace(notebook.abilities, bias=True))
    report = ct.check(biased, FEW)
    assert report.exit_code == 3
    said = [trouble.what for trouble in report.troubles]
    assert said == [what for what in said if "with its bias among the inputs" in what]


def test_subjects_without_biases_or_positions_are_not_asked_about_them() -> None:
    for problem in ct.draw_problems(notebook.abilities, 4, 1):
        linears = [m for m in problem.model.modules() if isinstance(m, nn.Linear)]
        assert all(m.bias is None for m in linears)
        assert all(x.dim() == 2 for x, _ in problem.batches)
    no_positions = ct.Abilities(positions=False)
    assert set(families_for(no_positions)) == {families.vectors, families.pairs, families.words}
    for problem in ct.draw_problems(no_positions, 4, 1):
        seen = Trial(reference, problem).seen
        assert all(len(a) == 1 for groups in seen.values() for one in groups for a in one.a)


REFUSALS = [
    (nn.Sequential(nn.Conv1d(1, 1, 1), nn.Flatten(), nn.Linear(3, 2)), "only Linear layers"),
    (nn.Sequential(nn.Linear(3, 3), *[nn.Linear(3, 3)] * 2, nn.Linear(3, 2)), "shares a param"),
    (nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False), nn.Linear(3, 2)), "BatchNorm"),
    (nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (1, 21)), nn.Linear(21, 2)), "axis 0"),
]


@pytest.mark.parametrize(("model", "said"), REFUSALS, ids=[said for _, said in REFUSALS])
def test_hooks_refuses(model: nn.Module, said: str) -> None:
    problem = small_problem()
    x = torch.randn(7, 1, 3) if isinstance(next(model.children()), nn.Conv1d) else torch.randn(7, 3)
    batches = [(x.double(), torch.randn(7, 2).double())]
    with pytest.raises(ValueError, match=said):
        hooks.ekfac(replace(problem, model=model.double(), batches=batches))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_hooks_refuses_sharings_masks_and_nan() -> None:
    with pytest.raises(ValueError, match="only Expand"):
        hooks.ekfac(small_problem(sharing=ek.Reduce()))
    with pytest.raises(ValueError, match="without a mask"):
        hooks.ekfac(replace(small_problem(), mask=lambda x: torch.ones(len(x), 1).bool()))
    problem = small_problem()
    (x, y), rest = problem.batches
    with pytest.raises(ValueError, match="NaN"):
        hooks.ekfac(replace(problem, batches=[(x * torch.nan, y), rest]))


# Subjects in another convention, made of the reference's answers.

SCALES = [
    (adapter.samples, lambda N, K, empirical: N),
    (adapter.of_loss(adapter.mean_loss), lambda N, K, empirical: (2 / K) ** (1 + empirical)),
    (adapter.of_loss(adapter.sum_loss), lambda N, K, empirical: N * 2.0 ** (1 + empirical)),
    (
        adapter.averaged(adapter.of_loss(adapter.sum_loss)),
        lambda N, K, empirical: 2.0 ** (1 + empirical),
    ),
]


def assert_adapts(problem: ek.Problem, parts: dict, convention: Convention, to: dict) -> None:
    got = adapted(lambda asked: parts, convention)(problem)
    assert set(got) == set(to)
    for name, expected in to.items():
        torch.testing.assert_close(got[name].dense(), expected.dense())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("by_rows", [True, False])
@pytest.mark.parametrize("flat", [True, False])
def test_eigenvectors_and_eigenvalues(bias: bool, first: bool, by_rows: bool, flat: bool) -> None:
    problem = small_problem(bias)
    right = ek.ekfac(problem)
    parts = {}
    for name, E in right.items():
        Q_A = E.Q_A.roll(1, 0) if first and bias else E.Q_A
        backwards = E.eigenvalues.flip(0, 1)  # the largest first
        values = backwards if by_rows else backwards.T.contiguous()
        Q_B, Q_A = E.Q_B.flip(1), Q_A.flip(1)
        parts[name] = Eigen(
            Q_B if by_rows else Q_B.T,
            Q_A if by_rows else Q_A.T,
            values.flatten() if flat else values,
        )
    convention = Convention(
        eigenvectors=adapter.in_columns if by_rows else adapter.in_rows,
        eigenvalues=adapter.rows if by_rows else adapter.columns,
        bias=adapter.bias_first if first else adapter.bias_last,
    )
    assert_adapts(problem, parts, convention, right)


@pytest.mark.parametrize("convention", [Convention(), Convention(bias=adapter.bias_first)])
def test_factors(convention: Convention) -> None:
    problem = small_problem()
    right = ek.kfac(problem)
    first = convention.bias is adapter.bias_first
    roll = (lambda A: A.roll((1, 1), (0, 1))) if first else (lambda A: A)
    parts = {name: Factors(K.B.numpy(), roll(K.A).numpy()) for name, K in right.items()}
    assert_adapts(problem, parts, convention, right)


def order_of(bias: object, vec: object, d_out: int, d_in: int) -> list[tuple[int, int]]:
    """Entry by entry, what an implementation puts one behind the other; by plain loops."""
    inputs = [d_in - 1, *range(d_in - 1)] if bias is adapter.bias_first else [*range(d_in)]
    behind = [inputs.pop()] if bias is adapter.bias_behind else []
    listed = (
        [(o, i) for o in range(d_out) for i in inputs]
        if vec is adapter.rows
        else [(o, i) for i in inputs for o in range(d_out)]
    )
    return listed + [(o, i) for i in behind for o in range(d_out)]


@pytest.mark.parametrize("vec", [adapter.rows, adapter.columns])
@pytest.mark.parametrize("bias", [adapter.bias_last, adapter.bias_first, adapter.bias_behind])
def test_a_whole_matrix(vec: adapter.Layout, bias: adapter.Bias) -> None:
    problem = small_problem()
    right = ek.exact_fisher(problem)
    parts = {}
    for name, F in right.items():
        d_out, d_in = F.shape
        theirs = [o * d_in + i for o, i in order_of(bias, vec, d_out, d_in)]
        parts[name] = Matrix(F.dense()[theirs][:, theirs])
    assert_adapts(problem, parts, Convention(vec=vec, bias=bias), right)


@pytest.mark.parametrize("empirical", [False, True])
@pytest.mark.parametrize(("scale", "factor"), SCALES, ids=["samples", "mean", "sum", "averaged"])
def test_scales(scale: adapter.Scale, factor: object, empirical: bool) -> None:
    problem = small_problem(fisher=ek.Empirical() if empirical else ek.Exact())
    right = ek.ekfac(problem)
    times = factor(7, 2, empirical)
    parts = {n: Eigen(E.Q_B, E.Q_A, times * E.eigenvalues) for n, E in right.items()}
    assert_adapts(problem, parts, Convention(scale=scale), right)
    kfac = ek.kfac(problem)
    parts = {n: Factors(K.B, times * K.A) for n, K in kfac.items()}
    assert_adapts(problem, parts, Convention(scale=scale), kfac)


@pytest.mark.parametrize("likelihood", [ek.Categorical(1, 3), ek.Bernoulli(), ek.Poisson()])
def test_losses_are_those_of_the_likelihood(likelihood: ek.Likelihood) -> None:
    for loss in (adapter.mean_loss(likelihood), adapter.sum_loss(likelihood)):
        assert ek.likelihood_of(loss) == likelihood
    with pytest.raises(ValueError, match="no torch loss known"):
        adapter.mean_loss(object())  # type: ignore[arg-type]


@pytest.mark.parametrize("class_axis", [1, 2, -1, -2])
def test_losses_have_the_classes_where_the_likelihood_says(class_axis: int) -> None:
    """With as many positions as classes, no shape tells the axes apart."""
    f, y = torch.randn(4, 3, 3), torch.tensor([[0, 1, 2], [2, -100, 0], [1, 1, 1], [0, 0, 2]])
    loss = adapter.sum_loss(ek.Categorical(class_axis))
    p = f.log_softmax(class_axis).movedim(class_axis, -1)
    kept = [(n, t) for n in range(4) for t in range(3) if y[n, t] >= 0]
    expected = -torch.stack([p[n, t, y[n, t]] for n, t in kept]).sum()
    torch.testing.assert_close(loss(f, y), expected)


def test_groups() -> None:
    model = nn.Sequential(nn.Conv1d(4, 2, 1, groups=2), nn.Flatten(), nn.Linear(4, 2)).double()
    batches = [(torch.randn(5, 4, 2).double(), torch.randn(5, 2).double())]
    problem = ek.Problem(model, batches, ek.Gaussian())
    right = ek.ekfac(problem)
    parts = {
        name: [
            Eigen(part.Q_B, part.Q_A.roll(1, 0), part.eigenvalues)
            for part in getattr(E, "blocks", (E,))
        ]
        for name, E in right.items()
    }
    assert_adapts(problem, parts, Convention(bias=adapter.bias_first), right)
    with pytest.raises(ct.BadAnswer, match="1 groups of 2"):
        adapted(lambda asked: parts | {"0": parts["0"][:1]})(problem)


def test_the_wrong_convention_is_named() -> None:
    problem = small_problem()
    right = ek.ekfac(problem)
    parts = {n: Eigen(E.Q_B, E.Q_A, E.eigenvalues) for n, E in right.items()}
    with pytest.raises(ct.BadAnswer, match="rows or columns declared"):
        adapted(lambda asked: parts, Convention(eigenvalues=adapter.columns))(problem)
    for name, bad, said in [
        ("Q_A", replace(parts["0"], Q_A=right["0"].Q_A[:-1]), "expected"),
        ("answer", right["0"], "expected Eigen, Factors or Matrix"),
        ("B", Factors(torch.eye(3), torch.eye(4)), r"shape \[3, 3\], expected \[2, 2\]"),
        ("matrix", Matrix(torch.eye(6)), r"shape \[6, 6\], expected \[8, 8\]"),
    ]:
        with pytest.raises(ct.BadAnswer, match=f"layer '0', {name}: .*{said}"):
            adapted(lambda asked, bad=bad: parts | {"0": bad})(problem)
    with pytest.raises(ct.BadAnswer, match=r"expected a dict of \['0', '2'\]"):
        adapted(lambda asked: {"0": parts["0"]})(problem)


def test_a_subject_in_another_convention_conforms_once_it_is_declared() -> None:
    """The reference itself, by columns, the bias first, at the scale of a sum loss."""

    def foreign(problem: ek.Problem) -> dict[str, Eigen]:
        scale = ek.loss_scale(adapter.sum_loss(problem.likelihood), problem)
        biases = {layer.name: layer.bias for layer in ek.find_layers(problem.model, problem.layers)}
        return {
            name: Eigen(
                E.Q_B,
                E.Q_A if biases[name] is None else E.Q_A.roll(1, 0),
                scale * E.eigenvalues.T,
            )
            for name, E in ek.ekfac(problem).items()
        }

    declared = Convention(
        eigenvalues=adapter.columns,
        bias=adapter.bias_first,
        scale=adapter.of_loss(adapter.sum_loss),
    )
    subject = ct.Subject("foreign", adapted(foreign, declared), abilities=hooks.abilities)
    report = ct.check(subject, FEW)
    assert not [*report.troubles, *report.refused]
    assert not broken(report)
    undeclared = replace(subject, ekfac=adapted(foreign, replace(declared, scale=adapter.unit)))
    report = ct.check(undeclared, FEW, laws=["trace"], known={"trace": "its scale is not declared"})
    assert [v.status for v in report.verdicts] == [ct.Status.EXPECTED_FAILURE]


@pytest.mark.parametrize(
    ("subject", "mistake"),
    [
        (notebook, "builds kron(Q_A, Q_B) with eigenvalues and vectors in row order"),
        (notebook_columns, "flattens Lambda by rows and reads it by columns"),
    ],
    ids=["rows", "columns"],
)
def test_the_notebooks_mistake_is_named(subject: ct.Subject, mistake: str) -> None:
    assert mistake in ct.diagnose(subject).sentence


def test_the_notebook_refuses_what_its_class_does_not_know() -> None:
    """Its hooks are on every Linear, frozen or not."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)).double()
    model[1].weight.requires_grad_(False)
    batches = [(torch.randn(3, 2).double(), torch.randn(3, 2).double())]
    problem = ek.Problem(model, batches, ek.Gaussian(), ek.Empirical())
    with pytest.raises(ValueError, match=r"the notebook has \['0', '1'\], trainable are \['0'\]"):
        notebook.ekfac(problem)
    two = replace(problem, batches=[((x, x), y) for x, y in batches])
    with pytest.raises(ValueError, match="calls the model with one tensor"):
        notebook.ekfac(two)
