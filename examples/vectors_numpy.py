"""KFAC, EKFAC and the Fisher from bare a and g, held against the test vectors: numpy alone.

    python vectors_numpy.py vectors

An example for whoever writes the like in another language: read a file, compute, compare. It prints
every answer that is wrong, and ends with 0 where none is.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

ROUNDOFF = 2.0**-52


def array(values):
    """Nested lists of numbers as float64; "NaN" and "Infinity" are texts in JSON."""
    return np.array(values, dtype=np.float64) if np.size(values) else np.zeros(np.shape(values))


def check(a, g, counted, dampings):
    """An error where there is no answer."""
    if a.ndim != 3 or g.ndim != 4 or not a.size or not g.size:
        raise ValueError("no samples, no positions or no columns")
    if a.shape[:2] != counted.shape or (len(g), g.shape[2]) != counted.shape:
        raise ValueError("a, g and counted have other samples or positions")
    if not (np.isfinite(a).all() and np.isfinite(g).all() and np.isfinite(dampings).all()):
        raise ValueError("a number is not finite")
    if not counted.any():
        raise ValueError("no position counts")
    if np.any(g.swapaxes(1, 2)[~counted]):
        raise ValueError("a position that does not count carries a gradient")
    if min(dampings) <= 0:
        raise ValueError("a damping is to be above zero")


def gradients(a, g, counted):
    """G_nc = sum_t g_nct a_nt^T over the positions that count: [N, C, d_out, d_in]."""
    return np.einsum("ncto,nti->ncoi", g, a * counted[:, :, None])


def factors_expand(a, g, counted):
    """(B, A), every position a row: A over the M that count, B over the N samples."""
    rows = a[counted]
    A = rows.T @ rows / len(rows)
    B = np.einsum("ncto,nctp->op", g, g) / len(g)
    return B, A


def factors_reduce(a, g, counted):
    """(B, A), every sample a row: the mean of its inputs, the sum of its gradients."""
    count = counted.sum(1)
    total = (a * counted[:, :, None]).sum(1)
    means = total[count > 0] / count[count > 0][:, None]
    sums = g.sum(2)
    A = means.T @ means / len(means)
    B = np.einsum("nco,ncp->op", sums, sums) / len(g)
    return B, A


def fisher(G):
    """F = (1/N) sum_nc vec(G_nc) vec(G_nc)^T, rows stacked."""
    rows = G.reshape(-1, G.shape[2] * G.shape[3])
    return rows.T @ rows / len(G)


def eigenvalues(G, Q_B, Q_A):
    """Lambda = (1/N) sum_nc [Q_B^T G_nc Q_A]^2, elementwise."""
    return ((Q_B.T @ G @ Q_A) ** 2).sum((0, 1)) / len(G)


def ekfac(G, B, A):
    """E = (Q_B (x) Q_A) diag(vec Lambda) (Q_B (x) Q_A)^T."""
    Q_B, Q_A = np.linalg.eigh(B)[1], np.linalg.eigh(A)[1]
    Q = np.kron(Q_B, Q_A)
    return (Q * eigenvalues(G, Q_B, Q_A).reshape(-1)) @ Q.T


def solve(M, V, damping):
    """(M + damping I)^-1 V."""
    return np.linalg.solve(M + damping * np.eye(len(M)), V.reshape(-1)).reshape(V.shape)


def answers(a, g, counted, sharing, Q_B, Q_A, V, dampings):
    """All that a block is asked for, by name."""
    G = gradients(a, g, counted)
    B, A = (factors_expand if sharing == "expand" else factors_reduce)(a, g, counted)
    F, K, E = fisher(G), np.kron(B, A), ekfac(G, B, A)
    Lambda, inside = eigenvalues(G, Q_B, Q_A), Q_B.T @ V @ Q_A
    power = np.linalg.matrix_power
    return {
        "A": A,
        "B": B,
        "F": F,
        "trace": (G**2).sum() / len(G),
        "moments": [
            [(G * (power(B, p) @ G @ power(A, q))).sum() / len(G) for q in range(3)]
            for p in range(3)
        ],
        "KFAC": K,
        "Lambda": Lambda,
        "Lambda product": Q_B @ (Lambda * inside) @ Q_A.T,
        "Lambda solve": [Q_B @ (inside / (Lambda + d)) @ Q_A.T for d in dampings],
        "E": E,
        "F solve": [solve(F, V, d) for d in dampings],
        "KFAC solve": [solve(K, V, d) for d in dampings],
        "E solve": [solve(E, V, d) for d in dampings],
    }


def ratio(mine, told, length):
    """How far off, in roundings: entry by entry of the scale, or all together."""
    difference, scale = np.asarray(mine) - np.array(told["value"]), np.array(told["scale"])
    off = np.abs(difference) if scale.shape == difference.shape else np.array([
        np.sqrt((part**2).sum()) for part in difference.reshape(max(scale.size, 1), -1)
    ]).reshape(scale.shape)  # fmt: skip
    if np.any(np.isnan(off)):
        return np.inf
    return float(np.max(off / (np.maximum(scale, 1e-290) * length * ROUNDOFF)))


def wrong(case, mistake):
    """What is wrong of a case: (answer, ratio) of each that is further off than rounding."""
    a, g, counted = array(case["a"]), array(case["g"]), np.array(case["counted"], dtype=bool)
    if case["status"] == "refuse":
        try:
            check(a, g, counted, array(case["dampings"]))
        except ValueError:
            return []
        return [("answered what is to be refused", np.inf)]
    found = []
    for block in case["blocks"]:
        check(a, g, counted, block["dampings"])
        own = a[:, :, slice(*block["columns"])]
        given = [np.array(block[name]) for name in ("Q_B", "Q_A", "V", "dampings")]
        mine = answers(own, g, counted, case["sharing"], *given)
        for name, told in block["answers"].items():
            if told["status"] == "valid":
                off = ratio(mine[name], told, block["length"])
                found += [(f"{block['name']}, {name}", off)] if off > mistake else []
    return found


def read(folder):
    """(manifest, cases), each file held against its digest."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    if (manifest["format"], manifest["version"]) != ("ekfac-ref vectors", 1):
        raise SystemExit("these are no vectors of version 1")
    cases = []
    for entry in manifest["files"]:
        contents = (folder / entry["file"]).read_bytes()
        if hashlib.sha256(contents).hexdigest() != entry["sha256"]:
            raise SystemExit(f"{entry['file']}: it is not the file that the manifest tells of")
        cases += json.loads(contents)["cases"] if "cases" in entry else []
    return manifest, cases


def main(folder):
    """Hold all answers against the vectors; the exit code."""
    manifest, cases = read(Path(folder))
    found = [(case, *one) for case in cases for one in wrong(case, manifest["rule"]["mistake"])]
    for case, name, off in found:
        print(f"{case['id']}: {name} is {off:.3g} roundings off ({case['says']})")
    failed = len({case["id"] for case, *_ in found})
    print(f"{len(cases) - failed} of {len(cases)} vectors pass")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
