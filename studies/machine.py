"""What a study was run on."""

import platform
from pathlib import Path


def processor() -> str:
    """Its name, as Linux tells it; elsewhere its architecture."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
