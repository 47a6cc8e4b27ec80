"""``ekfac-ref vectors``: bare a and g with the right answers, in files for any language."""

import argparse
from pathlib import Path

from ekfac_ref.commands.subject import refuse
from ekfac_ref.conformance.vectors.files import write_vectors


def vectors_command(options: argparse.Namespace) -> int:
    """Write all files, the same bytes on every machine, and say what they are."""
    folder: Path = options.folder
    try:
        files = write_vectors(folder)
    except OSError as error:
        return refuse(f"{folder} cannot be written ({error}); give a folder that can", 2)
    size = sum(map(len, files.values())) / 1e6
    print(
        f"Written: {len(files)} files in {folder}, {size:.1f} MB; manifest.json tells what is in "
        "which, and schema.json what it means."
    )
    return 0
