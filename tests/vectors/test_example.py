"""The example in numpy passes all vectors, and every one of many mistakes in it is noticed."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.vectors.conftest import FOLDER, ROOT

EXAMPLE = ROOT / "examples" / "vectors_numpy.py"

# {the mistake: (what stands in the example, what stands there instead)}
MISTAKES = {
    "A divided by samples": ("A = rows.T @ rows / len(rows)", "A = rows.T @ rows / len(a)"),
    "B divided by positions": ('g, g) / len(g)', 'g, g) / counted.sum()'),
    "A first in the product": ("np.kron(B, A), ekfac", "np.kron(A, B), ekfac"),
    "squares per position": (
        "Lambda, inside = eigenvalues(G, Q_B, Q_A)",
        'Lambda, inside = eigenvalues(np.einsum("ncto,nti->nctoi", g, a * counted[:, :, None])'
        ".reshape(len(g), -1, g.shape[3], a.shape[2]), Q_B, Q_A)",
    ),
    "columns summed before the square": (
        "((Q_B.T @ G @ Q_A) ** 2).sum((0, 1))",
        "((Q_B.T @ G.sum(1) @ Q_A) ** 2).sum(0)",
    ),
    "samples summed before the square": (
        "((Q_B.T @ G @ Q_A) ** 2).sum((0, 1))",
        "((Q_B.T @ G.sum(0) @ Q_A) ** 2).sum(0)",
    ),
    "a mean over columns": ("sum((0, 1)) / len(G)", "sum((0, 1)) / len(G) / G.shape[1]"),
    "padding among the rows of A": ("rows = a[counted]", "rows = a.reshape(-1, a.shape[2])"),
    "a mean over all positions": ("/ count[count > 0][:, None]", "/ counted.shape[1]"),
    "samples without a position in the mean": ("means / len(means)", "means / len(a)"),
    "inputs summed by reduce": ("/ count[count > 0][:, None]", ""),
    "gradients averaged by reduce": ("sums = g.sum(2)", "sums = g.mean(2)"),
    "reduce where expand is asked": ('sharing == "expand"', 'sharing == "reduce"'),
    "columns stacked": ("rows = G.reshape(", "rows = G.swapaxes(2, 3).reshape("),
    "eigenvectors in rows": (
        "np.linalg.eigh(B)[1], np.linalg.eigh(A)[1]",
        "np.linalg.eigh(B)[1].T, np.linalg.eigh(A)[1].T",
    ),
    "rotated the other way": ("(Q_B.T @ G @ Q_A) ** 2", "(Q_B @ G @ Q_A.T) ** 2"),
    "eigenvalues in another order": (
        "Q_A).reshape(-1)) @ Q.T",
        'Q_A).reshape(-1, order="F")) @ Q.T',
    ),
    "eigenvalues of KFAC": (
        "eigenvalues(G, Q_B, Q_A).reshape(-1)) @ Q.T",
        "np.kron(np.linalg.eigh(B)[0], np.linalg.eigh(A)[0])) @ Q.T",
    ),
    "damping squared": ("damping * np.eye", "damping**2 * np.eye"),
    "damping in each factor": (
        "solve(K, V, d) for",
        "solve(np.kron(B + d**0.5 * np.eye(len(B)), A + d**0.5 * np.eye(len(A))), V, 0.0) for",
    ),
    "damping added twice": ("inside / (Lambda + d)", "inside / (Lambda + 2 * d)"),
    "not rotated back": ("Q_B @ (inside / (Lambda + d)) @ Q_A.T", "inside / (Lambda + d)"),
    "the covariance of inputs": ("rows = a[counted]", "rows = a[counted] - a[counted].mean(0)"),
    "divided by N - 1": (
        "return rows.T @ rows / len(G)",
        "return rows.T @ rows / max(len(G) - 1, 1)",
    ),
    "the trace of KFAC": ('"trace": (G**2).sum() / len(G)', '"trace": K.trace()'),
    "powers exchanged": ("power(B, p) @ G @ power(A, q)", "power(B, q) @ G @ power(A, p)"),
    "single precision": (
        "G = gradients(a, g, counted)",
        "G = gradients(a, g, counted).astype('f')",
    ),
    "the last input left out": (
        "own = a[:, :,",
        "own = (a * (np.arange(a.shape[2]) + 1 < a.shape[2]))[:, :,",
    ),
    "NaN let through": ("np.isfinite(a).all() and np.isfinite(g).all()", "True"),
    "nothing counts, and no error": ("if not counted.any():", "if False:"),
    "gradients at padding let through": ("if np.any(g.swapaxes(1, 2)[~counted]):", "if False:"),
    "any damping let through": ("if min(dampings) <= 0:", "if False:"),
}  # fmt: skip


def module(source: str) -> Any:
    made = ModuleType("example")
    exec(compile(source, str(EXAMPLE), "exec"), made.__dict__)
    return made


def noticed(source: str, vectors: list[dict[str, Any]]) -> str:
    """The first vector of which something is wrong, or ""."""
    example = module(source)
    with np.errstate(all="ignore"):
        return next((case["id"] for case in vectors if example.wrong(case, 100.0)), "")


def test_it_passes_all_by_itself(tmp_path: Path) -> None:
    (tmp_path / "here.py").write_text(EXAMPLE.read_text())
    command = [sys.executable, "-W", "error", "here.py", str(FOLDER)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr, ran.stdout) == (0, "", "297 of 297 vectors pass\n")


def test_it_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = module(EXAMPLE.read_text().replace(*MISTAKES["eigenvalues in another order"]))
    assert wrong.main(FOLDER) == 1
    said = capsys.readouterr().out
    assert "generic-0-expand-none: all, E is " in said
    assert "E solve" in said
    assert "Lambda is" not in said
    copied = tmp_path / "vectors"
    copied.mkdir()
    for path in FOLDER.iterdir():
        copied.joinpath(path.name).write_bytes(path.read_bytes().replace(b"1.0,", b"1.5,"))
    with pytest.raises(SystemExit, match="not the file that the manifest tells of"):
        wrong.main(copied)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_is_noticed(mistake: str, vectors: list[dict[str, Any]]) -> None:
    right = EXAMPLE.read_text()
    here, there = MISTAKES[mistake]
    assert right.count(here) == 1 or mistake == "reduce where expand is asked"
    assert noticed(right.replace(here, there), vectors)
