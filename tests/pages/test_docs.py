"""Every Python block of every page runs, and prints what the page says that it prints."""

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def fenced(page: str, language: str) -> list[tuple[int, str]]:
    """(line where it starts, contents) of every fenced block in one language."""
    found = re.finditer(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return [(page[: match.start(1)].count("\n"), match[1]) for match in found]


# torch's first use of forward mode compiles its own decompositions
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is:DeprecationWarning")
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_page_runs(path: Path) -> None:
    """In order, in one namespace; all that is printed is the page's ``text`` blocks, in order."""
    page = path.read_text()
    blocks = fenced(page, "python")
    assert blocks
    namespace: dict[str, object] = {"__name__": path.stem}
    printed = io.StringIO()
    with torch.random.fork_rng(), contextlib.redirect_stdout(printed):
        for line, block in blocks:  # padded, so that a traceback names the line of the page
            exec(compile("\n" * line + block, str(path), "exec"), namespace)
    assert printed.getvalue() == "".join(text for _, text in fenced(page, "text"))
