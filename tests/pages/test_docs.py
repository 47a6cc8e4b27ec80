"""Pages: their Python runs, their links lead somewhere, their mathematics is rendered."""

import ast
import contextlib
import io
import re
import shlex
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
import torch

from ekfac_ref import cli
from ekfac_ref import conformance as ct

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
PROSE = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
IN_MAKE_MODELS = {"transformers.md"}  # tests_models/test_page.py
WRITTEN_BY_PROGRAMS = {"peers.md", "mutants.md", "numerics.md", "published.md", "speed.md"}
PUBLIC = {f"ekfac_ref.conformance{part}" for part in ("", ".adapter", ".declared", ".for_pytest")}
SAVED_AS = "my_adapter"  # the name under which docs/adapter.md has its reader save its blocks
VALUES = {"convention", "mine"}  # what is saved with the functions

of_every_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
of_all_prose = pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)


def fenced(page: str, *languages: str) -> list[tuple[int, str, str]]:
    """(line where it starts, language, contents) of every fenced block in these languages."""
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    blocks = [(page[: match.start(2)].count("\n"), match[1], match[2]) for match in found]
    return [block for block in blocks if block[1] in languages]


def prose(page: str) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```\w*\n.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE)


def anchors(page: str) -> set[str]:
    """What a link may have behind its ``#``: headings in lower case, spaces as hyphens."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in headings}


def links(path: Path) -> list[tuple[str, str]]:
    """(file, anchor) of every link and picture of a page that leads into the repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(path.read_text()))
    inside = [target.partition("#") for target in targets if "://" not in target]
    return [(file, anchor) for file, _, anchor in inside]


# torch's first use of forward mode compiles its own decompositions
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is:DeprecationWarning")
@pytest.mark.parametrize(
    "path", [path for path in PAGES if path.name not in IN_MAKE_MODELS], ids=lambda path: path.name
)
def test_page_runs(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In order, in one namespace; all that is printed is the page's ``text`` blocks, in order.

    A ``console`` block is a command after ``$``, and what it prints, up to figures. It runs in a
    folder with what the page has its reader save.
    """
    page = path.read_text()
    assert fenced(page, "python") or path.name in WRITTEN_BY_PROGRAMS
    module, saved = ModuleType(path.stem), ""
    monkeypatch.syspath_prepend(str(tmp_path))
    printed = io.StringIO()
    with torch.random.fork_rng(), contextlib.redirect_stdout(printed):
        for line, language, block in fenced(page, "python", "console"):
            if language == "console":
                (tmp_path / f"{SAVED_AS}.py").write_text(_to_save(saved))
                with monkeypatch.context() as there:
                    there.chdir(tmp_path)
                    _runs(block)
            else:  # padded, so that a traceback names the line of the page
                saved += block
                exec(compile("\n" * line + block, str(path), "exec"), module.__dict__)
    assert printed.getvalue() == "".join(text for _, _, text in fenced(page, "text"))


def _to_save(blocks: str) -> str:
    """The functions, and the values named on the page."""
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef)
    nodes = [
        node
        for node in ast.parse(blocks).body
        if isinstance(node, kinds)
        or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in VALUES)
    ]
    return ast.unparse(ast.Module(nodes, []))


def _runs(block: str) -> None:
    command, _, expected = block.removeprefix("$ ").partition("\n")
    program, *arguments = shlex.split(command)
    assert program == "ekfac-ref"
    threads, printed = torch.get_num_threads(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        cli.main(arguments)
    torch.set_num_threads(threads)
    assert _figures_left_out(printed.getvalue()) == _figures_left_out(expected)


def _figures_left_out(text: str) -> list[str]:
    """Words alone: by how much rounding is off may differ from machine to machine."""
    return re.sub(r"\d[\d.e+-]*", "0", text).split()


@of_all_prose
def test_links_lead_somewhere(path: Path) -> None:
    for file, anchor in links(path):
        there = path.parent / file if file else path
        assert there.exists(), file
        assert not anchor or anchor in anchors(there.read_text()), f"{file}#{anchor}"


def test_every_page_is_linked_from_the_front_and_leads_back() -> None:
    front = {(ROOT / file).resolve() for file, _ in links(ROOT / "README.md")}
    for path in set(PROSE) - {ROOT / "README.md"}:
        assert path in front, path.name
        back = {(path.parent / file).resolve() for file, _ in links(path)}
        assert ROOT / "README.md" in back or path.name in WRITTEN_BY_PROGRAMS, path.name


@of_all_prose
def test_mathematics_is_in_the_forms_that_markdown_leaves_alone(path: Path) -> None:
    r"""Displays in ``math`` fences, the rest in $`...`$: between bare dollars, Markdown would take
    ``\,`` for a comma, ``\\`` for one backslash, and two underscores for emphasis.
    """
    text = prose(path.read_text())
    assert "$$" not in text
    assert "$" not in re.sub(r"`[^`]*`", "", re.sub(r"\$`[^`]+`\$", "", text))


@of_every_page
def test_pages_import_the_public_face_of_the_kit_only(path: Path) -> None:
    if path.name in WRITTEN_BY_PROGRAMS:
        return
    for _, _, block in fenced(path.read_text(), "python"):
        for node in ast.walk(ast.parse(block)):
            named = [node.module] if isinstance(node, ast.ImportFrom) else []
            named += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            kit = {str(name) for name in named if str(name).startswith("ekfac_ref.conformance")}
            assert kit <= PUBLIC


def test_the_page_for_adapters_names_all_that_is_drawn() -> None:
    page = (ROOT / "docs/adapter.md").read_text()
    drawn = [p for seed in range(3) for p in ct.draw_problems(ct.Abilities(), 200, seed)]
    kinds = {type(module).__name__ for problem in drawn for module in problem.model.modules()}
    kinds |= {type(problem.batches).__name__ for problem in drawn}
    named = {*re.findall(r"`(\w+)`", page), "NonDynamicallyQuantizableLinear"}  # attention's own
    of_three = {f"{kind}{n}d" for kind in ("Conv", "ConvTranspose", "BatchNorm") for n in (1, 2, 3)}
    assert kinds <= {*named, *of_three}
    assert {field.name for field in fields(ct.Abilities)} <= named
