"""``ekfac-ref new``: an adapter to fill in."""

import argparse
from importlib.resources import files
from pathlib import Path

from ekfac_ref.commands.subject import refuse


def new_command(options: argparse.Namespace) -> int:
    """Write the file, where there is none yet, and say what to do with it."""
    path: Path = options.file
    if not path.stem.isidentifier() or path.suffix != ".py":
        return refuse(f"{path.name} cannot be imported; give a name such as my_adapter.py", 2)
    source = files("ekfac_ref.commands").joinpath("adapter.py.txt").read_text("utf-8")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(source.replace("MODULE", path.stem))
    except FileExistsError:
        return refuse(f"{path.name} is there already; give another name", 2)
    except OSError as error:
        return refuse(f"{path} cannot be written ({error})", 2)
    print(
        f"Written: {path}\nFill in what it says at `here`, then, in its folder:\n\n"
        f"    ekfac-ref check {path.stem}:mine --profile demo"
    )
    return 0
