"""Arrows of the optimizer: it knows the reference, no judge, and the reference does not know it."""

import ekfac_ref.optim

from .test_house import ROOT, imports


def test_arrows_of_the_optimizer() -> None:
    files = list((ROOT / "optim").glob("*.py"))
    assert len(files) > 5
    for path in files:
        assert not {i for i in imports(path) if i.startswith(("conformance", "train"))}, path.name
    for path in [*ROOT.glob("*.py"), *(ROOT / "conformance").rglob("*.py")]:
        assert not {i for i in imports(path) if i.startswith("optim")}, path.name


def test_public_names() -> None:
    assert ekfac_ref.optim.__all__ == ["EKFAC", "KFAC", "EKFACPreconditioner", "KFACPreconditioner"]


def test_files_are_short() -> None:
    for path in (ROOT / "optim").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 250, path.name
