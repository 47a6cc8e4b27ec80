"""docs/transformers.md runs, top to bottom in one namespace, and prints what it says."""

import contextlib
import io
import warnings
from types import ModuleType

import torch

from tests.pages.test_docs import ROOT, fenced


def test_the_page_runs() -> None:
    path = ROOT / "docs" / "transformers.md"
    page, module, printed = path.read_text(), ModuleType("transformers_page"), io.StringIO()
    with torch.random.fork_rng(), contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "model: torch.vmap cannot run")
        for line, _, block in fenced(page, "python"):
            exec(compile("\n" * line + block, str(path), "exec"), module.__dict__)
    assert printed.getvalue() == "".join(text for _, _, text in fenced(page, "text"))
