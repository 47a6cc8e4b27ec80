"""Formulas of the page: mathematics where a text has symbols, prose where it has words."""

import re
from xml.etree import ElementTree

import pytest

from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.reports.formulas import with_formulas

MATHS = re.compile(r"<math>.*?</math>")
STATEMENTS = [law.statement for law in LAWS.values()]
SENTENCES = [mutant.mistake for mutant in MUTANTS.values()]


def marked(text: str) -> str:
    """What is seen of it, formulas in {braces}, with ``_`` and ``^`` before scripts."""
    tags = {r"<msub>(<.*?>)(<m\w+>.*?)</msub>": r"\1_\2", r"<msup>(<.*?>)(<.*?>)</msup>": r"\1^\2"}
    html = re.sub(r"</?math>", lambda tag: "}" if "/" in tag[0] else "{", str(with_formulas(text)))
    for tag, sign in tags.items():
        html = re.sub(tag, sign, html)
    return re.sub(r"<[^>]*>", "", html)


@pytest.mark.parametrize("text", [*STATEMENTS, *SENTENCES])
def test_no_formula_is_left_in_ascii(text: str) -> None:
    html = str(with_formulas(text))
    for formula in MATHS.findall(html):
        ElementTree.fromstring(formula)
        assert not re.search(r"[_^*']|\(x\)|sum|sqrt|Lambda|Delta", re.sub("<.*?>", " ", formula))
    prose = re.sub(r"Definition\(\w=?.*?\)\)|\w+_\w\w+|\w+=&#39;same&#39;", "", MATHS.sub("", html))
    assert not re.search(r"[_^=|]|\(x\)|Lambda|Delta", re.sub("<.*?>", "", prose))


@pytest.mark.parametrize("text", STATEMENTS)
def test_prose_stays(text: str) -> None:
    words = re.findall(r"\b[a-z]{3,}\b", re.sub(r"\w*_\w+", "", text))
    shown = re.sub(r"<.*?>", " ", str(with_formulas(text)))
    assert [word for word in words if word not in {"sum"}] == re.findall(
        r"\b[a-z]{3,}\b", shown.replace(" sum ", " ")
    )


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("E v = 0 implies F v = 0", "{Ev=0} implies {Fv=0}"),
        (
            "where B (x) A = F (a batch of one, say), E = F",
            "where {B⊗A=F} (a batch of one, say), {E=F}",
        ),
        ("tr F = (1/N) sum_nc |G_nc|^2", "{trF=1N∑_nc‖G_nc‖^2}"),
        ("(M + 1e-06 I) x = v, d = 2.5e3 and 1", "{(M+10^−6I)x=v}, {d=2.5⋅10^3} and 1"),
        ("lr <= -<D_1, g>, m the largest", "{lr≤−⟨D_1,g⟩}, {m} the largest"),
        ("P' V (B + sqrt(d) / pi I)^-1, [W | b]", "{P^′V(B+d/πI)^−1}, {[W|b]}"),
        ("A = s A* of (1) A's (right: Q^T D)", "{A=sA^∗} of (1) A's (right: {Q^⊤D})"),
        (
            "a rank of 3, sum to one, at d_in times",
            "a rank of 3, sum to one, at {d_in} times",
        ),
        ("A mean. A sum. I am: A, B", "A mean. A sum. I am: A, {B}"),
        ("5 of 5: '<b>' f(x, padding_mode (a", "5 of 5: &#39;&lt;b&gt;&#39; f(x, padding_mode (a"),
    ],
)
def test_which_text_is_a_formula(text: str, seen: str) -> None:
    assert marked(text).replace("&#39;s", "'s") == seen


def test_what_may_be_too_wide_for_a_phone_scrolls_by_itself() -> None:
    box = '<span class="long" tabindex="0">'
    assert box not in with_formulas("E (B (x) I) = (B (x) I) E and more")
    long = str(with_formulas("Q_A^T A Q_A = Q_B^T B Q_B + I, and more"))
    assert long.startswith(box)
    assert long.endswith("</math>,</span> and more")
