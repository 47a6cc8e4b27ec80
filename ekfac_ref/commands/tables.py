"""How a command shows a list, or all about one thing."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


def list_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    """A row each; only the last column wraps."""
    table = Table()
    for number, title in enumerate(header):
        table.add_column(title, no_wrap=number + 1 < len(header))
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def print_facts(console: Console, facts: list[tuple[str, str]]) -> None:
    """Print ``name: value`` on a line each, and leave out those without a value."""
    for name, value in facts:
        if value:
            console.print(Text(f"{name + ':':<11}") + Text(value), soft_wrap=True)
