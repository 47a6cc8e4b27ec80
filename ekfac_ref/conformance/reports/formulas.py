"""Formulas of statements as mathematics: ``tr E = |G_nc|^2`` in a text becomes MathML in HTML.

Laws are written once, in ASCII, for terminals too. A formula in such a text is a run of words that
are made of symbols alone; whatever else stands there is prose, and stays as it is.
"""

import re
from collections.abc import Iterator

from markupsafe import Markup, escape

_SYMBOLS = {"Lambda": "Λ", "Delta": "Δ", "nu": "ν", "pi": "π"}
_NAMES: tuple[str, ...] = (
    "diag",
    "exp",
    "ker",
    "kron",
    "lr",
    "matvec",
    "momentum",
    "precondition",
    "solve",
    "spec",
)
_NAMES += ("tr", "vec")
_SIGNS = {"(x)": "⊗", "<=": "≤", ">=": "≥", "-": "−", "|": "‖", "<": "⟨", ">": "⟩"}
_FENCES = "()[]‖⟨⟩"
_LONG = 25  # characters: more are wider than half of a phone
_TOKEN = re.compile(
    rf"""(?: (?P<mean>\(1/N\)) | (?P<root>sqrt(?:\(\w\)|[ ]\w)) | (?P<number>\d[\d.]*(?:e[-+]?\d+)?)
    | (?P<word>(?:sum(?=_)|a(?=_)|{"|".join((*_SYMBOLS, *_NAMES))}|[A-Zb-z]\d?)(?![A-Za-z]))
    | (?P<sign>\(x\)|[<>]=|[-+=<>()\[\]|/]|,(?=(?:\(x\)|[^<(\[])*[>\])])) )  # in brackets a comma
    (?:_(?P<sub>[A-Za-z\d]+))? (?P<mark>['*](?!\w))? (?:\^(?P<sup>-?\w+))?""",
    re.VERBOSE,
)
_WORD = f"(?:{re.sub(r'[?]P<.*?>', '?:', _TOKEN.pattern)})+"
_RUN = re.compile(rf"(?<!\S){_WORD}(?:[ ]{_WORD})*[,;:.]?(?!\S)", re.VERBOSE)


def with_formulas(text: str) -> Markup:
    """The text as HTML, escaped, with every formula as MathML."""
    html, end = Markup(), 0
    for found in _RUN.finditer(text):
        formula = found[0].rstrip(",;:.")
        while formula.endswith(")") and formula.count(")") > formula.count("("):
            formula = formula[:-1]
        if not _is_prose(formula, text[: found.start()]):
            html += escape(text[end : found.start()])
            html += _box(formula, found[0].removeprefix(formula))
            end = found.end()
    return html + escape(text[end:])


def _is_prose(run: str, before: str) -> bool:
    """Numbers, an article, a name by itself, half of a pair of brackets."""
    begins = not before or before.endswith((". ", ": "))
    alone = {"I", *_NAMES} | ({"A"} if begins else set())
    pairs = (run.count(one) == run.count(other) for one, other in ("()", "[]"))
    return run in alone or not re.search("[A-Za-z]", run) or not all(pairs)


def _box(formula: str, behind: str) -> Markup:
    """A long one is in a box of class ``long``, which can scroll, with the comma behind it."""
    html = Markup(f"<math>{''.join(_elements(formula))}</math>") + behind
    long = Markup('<span class="long" tabindex="0">{}</span>')
    return long.format(html) if len(formula) > _LONG else html


def _elements(formula: str) -> Iterator[str]:
    end, factor = 0, False  # whether a product goes on behind a space
    for token in _TOKEN.finditer(formula):
        if factor and token.start() > end and not token["sign"]:
            yield '<mspace width="0.2em"/>'
        before, after = formula[end : token.start()], formula[token.end() : token.end() + 1]
        yield _scripted(token, _base(token, bool(before) or not end, after))
        end, factor = token.end(), not token["sign"]


def _base(token: re.Match[str], opens: bool, after: str) -> str:
    """``opens`` and ``after`` tell a bracket from a relation, and a sign of its own from minus."""
    if token["mean"]:
        return "<mfrac><mn>1</mn><mi>N</mi></mfrac>"
    if token["root"]:
        return f"<msqrt><mi>{token['root'][5]}</mi></msqrt>"
    if token["number"]:
        digits, _, power = token["number"].partition("e")
        ten = f"<msup><mn>10</mn>{_script(str(int(power)))}</msup>" if power else ""
        return ten if power and digits == "1" else f"<mn>{digits}</mn>{ten and '<mo>⋅</mo>'}{ten}"
    if token["word"]:
        word = token["word"]
        upright = ' mathvariant="normal"' if word in ("Lambda", "Delta") else ""
        return "<mo>∑</mo>" if word == "sum" else f"<mi{upright}>{_SYMBOLS.get(word, word)}</mi>"
    sign, apart = token["sign"], opens and after == " "
    if apart and sign in "<>|":
        return f"<mo>{escape(sign)}</mo>"
    shown = _SIGNS.get(sign, sign)
    if shown in _FENCES or (shown == "−" and after != " "):
        return f'<mo stretchy="false" lspace="0" rspace="0">{shown}</mo>'
    return f"<mo>{shown}</mo>"


def _scripted(token: re.Match[str], base: str) -> str:
    sub, sup = token["sub"] or "", token["sup"] or ""
    above = {"'": "<mo>′</mo>", "*": "<mo>∗</mo>", None: ""}[token["mark"]] or _script(sup)
    if sub and above:
        return f"<msubsup>{base}{_script(sub)}{above}</msubsup>"
    if sub:
        return f"<msub>{base}{_script(sub)}</msub>"
    return f"<msup>{base}{above}</msup>" if above else base


def _script(text: str) -> str:
    """Indices letter by letter, -1, the T of a transpose, and the words in and out."""
    if text in ("in", "out"):
        return f"<mi>{text}</mi>"
    if text == "T":
        return "<mo>⊤</mo>"
    letters = "".join(
        f"<mn>{one}</mn>" if one.isdigit() else "<mo>−</mo>" if one == "-" else f"<mi>{one}</mi>"
        for one in text
    )
    return f"<mrow>{letters}</mrow>" if letters else ""
