"""The board as a picture: a square for every feature and library, as SVG and in one HTML page."""

import html
from collections.abc import Mapping
from typing import Any

from ekfac_ref.conformance.problems.features import FEATURES
from peers.board import Cell, Verdict, by_feature
from peers.catalogue import FINDINGS, counted
from peers.libraries import LIBRARIES

# From Okabe and Ito's palette, which the colour-blind can tell apart; wrong has a mark, too.
COLOURS = {
    Verdict.EXACT: "#0072B2",
    Verdict.WRONG: "#D55E00",
    Verdict.UNEXPLAINED: "#CC79A7",
    Verdict.EXPLAINED: "#56B4E9",
    Verdict.REFUSES: "#b8b8b8",
    Verdict.IN_DOUBT: "#e4e4e4",
    Verdict.NOT_ANSWERED: "#e4e4e4",
    Verdict.NOT_DRAWN: "#ffffff",
}
_LEGEND = {
    Verdict.EXACT: "exact",
    Verdict.WRONG: "wrong",
    Verdict.EXPLAINED: "deviates, explained",
    Verdict.UNEXPLAINED: "deviates, not explained",
    Verdict.REFUSES: "refuses",
    Verdict.IN_DOUBT: "not told",
}
_LABEL, _SIDE, _TOP = 225, 26, 92  # pixels
_FONT = 'font-family="system-ui, sans-serif"'


def svg(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """Rows are features, columns libraries."""
    asked = [one for one in LIBRARIES if reports.get(one.name)]
    cells = {one.name: by_feature(one, reports[one.name]) for one in asked}
    rows = [name for name in FEATURES if any(_is_told(cells[one.name].get(name)) for one in asked)]
    width, bottom = _LABEL + _SIDE * len(asked) + 40, _TOP + 15 * len(rows)
    height = bottom + 20 * len(_LEGEND) + 14
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {_FONT} '
        f'font-size="11" role="img" aria-label="Features by library">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for i, one in enumerate(asked):
        x = _LABEL + _SIDE * i + 14
        parts.append(f'<text transform="translate({x},{_TOP - 6}) rotate(-55)">{one.name}</text>')
    for j, name in enumerate(rows):
        y = _TOP + 15 * j
        parts.append(f'<text x="{_LABEL - 8}" y="{y + 11}" text-anchor="end">{name}</text>')
        for i, one in enumerate(asked):
            parts.append(_square(_LABEL + _SIDE * i, y, cells[one.name].get(name)))
    for k, (verdict, words) in enumerate(_LEGEND.items()):
        y = bottom + 10 + 20 * k
        parts.append(_square(_LABEL, y, Cell(verdict)))
        parts.append(f'<text x="{_LABEL + 30}" y="{y + 11}">{words}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _is_told(cell: Cell | None) -> bool:
    return cell is not None and cell.verdict is not Verdict.NOT_DRAWN


def _square(x: int, y: int, cell: Cell | None) -> str:
    verdict = cell.verdict if cell else Verdict.NOT_DRAWN
    square = f'<rect x="{x}" y="{y}" width="{_SIDE - 3}" height="13" rx="2"'
    square += f' fill="{COLOURS[verdict]}"/>'
    if verdict is Verdict.WRONG:
        middle = x + (_SIDE - 3) / 2
        square += f'<text x="{middle}" y="{y + 11}" fill="#fff" text-anchor="middle">✕</text>'
    return square


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Released libraries on trial</title>
<style>
body {{ font: 16px/1.45 system-ui, sans-serif; color: #333; max-width: 46rem; margin: 1rem auto;
  padding: 0 1rem; }}
svg {{ width: 100%; max-width: 30rem; height: auto; }}
article {{ border-top: 1px solid #ddd; padding: .5rem 0; }}
code {{ font-size: .85em; overflow-wrap: anywhere; }}
</style></head><body>
<h1>Released libraries on trial</h1>
<p>{head}</p>
{picture}
<h2>{count}</h2>
{findings}
</body></html>
"""


def one_page(reports: Mapping[str, Mapping[str, Any]], told: Mapping[str, str], head: str) -> str:
    """Picture and findings on one page, for a phone as well."""
    articles = "\n".join(
        f"<article><b>{f.library}</b>: {html.escape(f.sentence)}<br>"
        f"it has <code>{html.escape(f.wrong)}</code><br>"
        f"right is <code>{html.escape(f.right)}</code><br>"
        f"<code>{html.escape(told.get(f.id, 'not run'))}</code> "
        f"({f.id}{', a question' if f.may_be_meant else ''})</article>"
        for f in FINDINGS
    )
    return _PAGE.format(
        head=html.escape(head), picture=svg(reports), count=counted(), findings=articles
    )
