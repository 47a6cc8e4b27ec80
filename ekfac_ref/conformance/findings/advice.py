"""What helps where laws are too blunt for a block of the user's own model."""

from collections.abc import Mapping

from ekfac_ref.conformance.findings.verdicts import Status


def to_resolve(status: Mapping[str, Status], dtype: str) -> str:
    """What makes laws less blunt: rounding is that of the problem's dtype, whatever answers.

    Args:
        status: of every law that was to be asked.
        dtype: of the problem, "float32" say.
    """
    if "eigenvalues" not in status:
        return "ask all laws"
    if dtype not in ("float32", "float64"):
        return "pose the problem in float32, model and data"
    finer = "pose the problem in float64" if dtype == "float32" else ""
    hidden = status["eigenvalues"] is Status.NOT_OFFERED
    if hidden and status.get("spectrum") is not Status.NOT_OFFERED:
        more = f", or {finer}, where fewer of these look equal" if finer else ""
        return f"show eigenvectors and eigenvalues{more}"
    if hidden and status.get("precondition", Status.NOT_OFFERED) is not Status.NOT_OFFERED:
        return "show E, too" + (f", or {finer}" if finer else "")
    return finer or "pose it with other data: here rounding is as large as what is answered"
