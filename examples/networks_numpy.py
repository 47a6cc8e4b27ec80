"""Answers to exported questions, in numpy alone: networks, per-sample gradients, EKFAC.

    ekfac-ref export DIR
    python networks_numpy.py DIR
    ekfac-ref judge DIR

An example for whoever writes the like in another language. Every layer is y = W a, with a gathered
from its input by a table of indices: that is all there is to convolutions.
"""

import json
import sys
from itertools import product
from pathlib import Path

import numpy as np


class Refused(Exception):
    """What this program does not do, or nobody can."""


def array(values):
    """Numbers as float64, or as they are where they are integers or booleans."""
    found = np.array(values)
    if found.dtype.kind in "USO":
        raise Refused("a number is NaN or infinite")
    return found


# Tables of indices: [T, groups, inputs], into the flat input of one sample; the last is a zero.


def rows_table(shape):
    """Every position of [*positions, d] is a row."""
    count, d = int(np.prod(shape[:-1], dtype=int)), shape[-1]
    return np.arange(count * d).reshape(count, 1, d)


def outside(i, size, mode):
    """The index inside that stands for one outside; None for a zero."""
    if 0 <= i < size:
        return i
    inside = {"circular": i % size, "replicate": min(max(i, 0), size - 1),
              "reflect": -i if i < 0 else 2 * (size - 1) - i}  # fmt: skip
    return inside.get(mode)


def image_table(node, channels, sizes, kernel, outputs, read):
    """``read(axis, p, k)`` is the input that output p reads at offset k of the kernel, or None."""
    per_group, strides = channels // node["groups"], np.cumprod([1, *sizes[:0:-1]])[::-1]
    table = []
    for p in product(*map(range, outputs)):
        for group in range(node["groups"]):
            for c in range(group * per_group, (group + 1) * per_group):
                for k in product(*map(range, kernel)):
                    at = np.array([read(axis, p[axis], k[axis]) for axis in range(len(p))])
                    inside = None not in at
                    table.append(c * np.prod(sizes) + at @ strides if inside else -1)
    return np.array(table).reshape(int(np.prod(outputs)), node["groups"], -1)


def convolution(node, shape, kernel):
    """(table, outputs): output p reads input p stride + k dilation - padding."""
    sizes, stride, dilation = shape[1:], node["stride"], node["dilation"]
    pads = node["padding"]
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    axes = zip(sizes, pads, reach, stride, strict=True)
    outputs = [(n + a + b - r - 1) // s + 1 for n, (a, b), r, s in axes]

    def read(axis, p, k):
        i = p * stride[axis] + k * dilation[axis] - pads[axis][0]
        return outside(i, sizes[axis], node["padding_mode"])

    return image_table(node, shape[0], sizes, kernel, outputs, read), outputs


def transposed(node, shape, kernel):
    """(table, outputs): input i reaches output i stride + k dilation - padding."""
    sizes, stride, dilation, pad = shape[1:], node["stride"], node["dilation"], node["padding"]
    axes = zip(sizes, stride, pad, dilation, kernel, node["output_padding"], strict=True)
    outputs = [(n - 1) * s - 2 * p + d * (k - 1) + extra + 1 for n, s, p, d, k, extra in axes]

    def read(axis, p, k):
        i, rest = divmod(p + pad[axis] - k * dilation[axis], stride[axis])
        return i if rest == 0 and 0 <= i < sizes[axis] else None

    return image_table(node, shape[0], sizes, kernel, outputs, read), outputs


def weighted(node, values, parameters):
    """(y, a, back): a [n, T, groups, i], ``back`` of g [C, n, T, groups, o] to the gradients of
    the inputs, by name.
    """
    x, W, op = values[node["in"][0]], parameters[node["weight"]], node["op"]
    n = len(x)
    if op == "embedding":
        table = np.arange(len(W))[None, :] == x.reshape(n, -1, 1)
        forward = table.astype(float)[:, :, None] @ W
        if node["padding_idx"] is not None:
            table = table & (x.reshape(n, -1, 1) != node["padding_idx"])
        y = forward.reshape(*x.shape, -1)
        return y, table.astype(float)[:, :, None], lambda g: {}
    if op == "bilinear":
        other = values[node["in"][1]]
        a = (x[:, :, None] * other[:, None]).reshape(n, 1, 1, -1)
        W = W.reshape(1, len(W), -1)

        def back_both(g):
            da = np.einsum("cntgo,goi->cni", g, W).reshape(len(g), n, x.shape[1], -1)
            return {node["in"][0]: (da * other[:, None]).sum(3),
                    node["in"][1]: (da * x[:, :, None]).sum(2)}  # fmt: skip

        return (a @ W[0].T).reshape(n, -1), a, back_both
    groups, shape = node.get("groups", 1), x.shape[1:]
    if op == "linear":
        table, outputs, W = rows_table(shape), None, W[None]
    elif op == "conv":
        table, outputs = convolution(node, shape, W.shape[2:])
        W = W.reshape(groups, len(W) // groups, -1)
    else:
        table, outputs = transposed(node, shape, W.shape[2:])
        split = W.reshape(groups, len(W) // groups, *W.shape[1:])
        W = split.swapaxes(1, 2).reshape(groups, W.shape[1], -1)
    flat = np.concatenate([x.reshape(n, -1), np.zeros((n, 1))], 1)
    a = flat[:, table]
    y = np.einsum("ntgi,goi->ntgo", a, W).reshape(n, len(table), -1)
    y = (
        y.reshape(*x.shape[:-1], -1)
        if outputs is None
        else y.swapaxes(1, 2).reshape(n, -1, *outputs)
    )

    def back(g):
        da = np.einsum("cntgo,goi->cntgi", g, W)
        dx = np.zeros((len(g), *flat.shape))
        np.add.at(dx, (slice(None), slice(None), table), da)
        return {node["in"][0]: dx[..., :-1].reshape(len(g), *x.shape)}

    return y, a, back


def of_two(node, values):
    """(y, back) of an operation on two values."""
    (one, two), op = node["in"], node["op"]
    x, other = values[one], values[two]
    if op == "add":
        return x + other, lambda g: {one: g, two: g}
    if op == "multiply":
        return x * other, lambda g: {one: g * other, two: g * x}
    if op == "matmul":
        return x @ other, lambda g: {one: g @ other.swapaxes(1, 2), two: x.swapaxes(1, 2) @ g}
    raise Refused(f"no operation {op}")


def simple(node, values, mask):
    """(y, back) of an operation without a weight."""
    op, x = node["op"], values[node["in"][0]]
    if len(node["in"]) == 2:
        return of_two(node, values)
    if op == "constant":
        return np.repeat(array(node["value"]), len(x), 0), lambda g: {}
    if op == "scale_shift":  # by channels, axis 1, or all alike
        shape = [-1] + [1] * (x.ndim - 2)
        scale, shift = (array(node[name]).reshape(shape) for name in ("scale", "shift"))
        return x * scale + shift, lambda g: g * scale
    if op == "softmax":
        y = np.exp(x - x.max(-1, keepdims=True))
        y = y / y.sum(-1, keepdims=True)
        return y, lambda g: y * (g - (g * y).sum(-1, keepdims=True))
    if op == "tanh":
        y = np.tanh(x)
        return y, lambda g: g * (1 - y**2)
    if op == "sigmoid":
        y = 1 / (1 + np.exp(-x))
        return y, lambda g: g * y * (1 - y)
    if op == "relu":
        return np.maximum(x, 0), lambda g: g * (x > 0)
    if op == "flatten":
        return x.reshape(len(x), -1), lambda g: g.reshape(len(g), *x.shape)
    if op == "transpose":
        return x.swapaxes(1, 2), lambda g: g.swapaxes(2, 3)
    if op == "add_mean":
        return x + x.mean(1, keepdims=True), lambda g: g + g.mean(2, keepdims=True)
    if op in ("mean", "masked_mean"):
        on = np.ones(x.shape[:2]) if op == "mean" or mask is None else array(mask).astype(float)
        weights = (on / np.maximum(on.sum(1, keepdims=True), 1))[..., None]
        return (x * weights).sum(1), lambda g: g[:, :, None] * weights
    raise Refused(f"no operation {op}")


def columns(question, f, y):
    """S: [C, n, *out], one column after the other."""
    kind, empirical = question["likelihood"], question["fisher"] == "empirical"
    if kind == "Categorical":
        f = np.moveaxis(f, question["class_axis"], -1)
        p = np.exp(f - f.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        valid = (y != question["ignore_index"])[..., None]
        if empirical:
            S = ((p - np.eye(f.shape[-1])[np.where(valid[..., 0], y, 0)]) * valid)[None]
        else:
            places = list(product(*map(range, f.shape[1:])))
            S = np.zeros((len(places), *f.shape))
            for c, (*t, k) in enumerate(places):
                at = (slice(None), *t)
                S[(c, *at)] = np.sqrt(p[(*at, slice(k, k + 1))]) * (np.eye(len(p[0].T))[k] - p[at])
                S[(c, *at)] *= valid[at]
        return np.moveaxis(S, -1, question["class_axis"] + (question["class_axis"] >= 0))
    mean = {"Gaussian": f, "Bernoulli": 1 / (1 + np.exp(-f)), "Poisson": np.exp(f)}[kind]
    if empirical:
        return (mean - y)[None]
    variance = {"Gaussian": f * 0 + 1, "Bernoulli": mean * (1 - mean), "Poisson": mean}[kind]
    flat = np.sqrt(variance).reshape(len(f), -1)
    diagonal = flat.T[:, :, None] * np.eye(flat.shape[1])[:, None]
    return diagonal.reshape(-1, *f.shape)


def seen(question, parameters, batch):
    """{layer: [(a, g, counted)] of every use}: a [n, T, groups, i], g [C, n, T, groups, o]."""
    values = {name: array(x) for name, x in batch["inputs"].items()}
    mask, tape = batch["mask"], []
    for node in question["network"]:
        if "weight" in node:
            y, a, back = weighted(node, values, parameters)
            if node["bias"] is not None:
                shape = [-1] + [1] * (y.ndim - 2) if node["op"].startswith("conv") else [-1]
                y = y + parameters[node["bias"]].reshape(shape)
            tape.append((node, y, a, back))
        else:
            y, back = simple(node, values, mask)
            tape.append((node, y, None, back))
        values[node["out"]] = y
    S = columns(question, y, array(batch["targets"]))
    gradients, found = {question["network"][-1]["out"]: S}, {}
    has_bias = {layer["name"]: layer["bias"] for layer in question["layers"]}
    for node, y, a, back in reversed(tape):
        g = gradients.pop(node["out"], np.zeros((len(S), *y.shape)))
        if a is not None:
            channels_last = np.moveaxis(g, 2, -1) if node["op"].startswith("conv") else g
            g = channels_last.reshape(len(S), *a.shape[:3], -1)
            if node["layer"] is not None:
                if has_bias[node["layer"]]:
                    a = np.concatenate([a, np.full((*a.shape[:3], 1), node["bias"] is not None)], 3)
                on = np.ones(a.shape[:2], dtype=bool)
                on = array(mask) if mask is not None and a.shape[1] > 1 else on
                found.setdefault(node["layer"], []).append((a, g, on))
        given = back(g)
        for name, x in (given if isinstance(given, dict) else {node["in"][0]: given}).items():
            gradients[name] = gradients.get(name, 0) + x
    return found


def side_by_side(uses):
    """(a, g, counted) of all uses together: each is a run of positions."""
    a, g, on = zip(*uses, strict=True)
    return np.concatenate(a, 1), np.concatenate(g, 2), np.concatenate(on, 1)


def answer(question):
    """{name: numbers} of all layers."""
    parameters = {name: array(x) for name, x in question["parameters"].items()}
    used = {node.get("layer") for node in question["network"]}
    if unknown := [one["name"] for one in question["layers"] if one["name"] not in used]:
        raise Refused(f"there is no layer {unknown[0]}")
    uses = [seen(question, parameters, batch) for batch in question["batches"]]
    found = {}
    for layer in question["layers"]:
        name = layer["name"]
        joined = [side_by_side(one[name]) for one in uses]
        samples = [(a[n], g[:, n], on[n]) for a, g, on in joined for n in range(len(a))]
        diagonals = []
        for k in range(layer["groups"]):
            of = [(a[:, k], g[:, :, k], on) for a, g, on in samples]
            blocks, diagonal = block(of, question["sharing"])
            V = [(array(one["V"][name][k]), one["damping"]) for one in question.get("solve", [])]
            found |= {f"{name}/{way}/{k}/{part}": x for (way, part), x in blocks.items()}
            Q_B, Q_A, Lambda = (blocks["ekfac", part] for part in ("Q_B", "Q_A", "eigenvalues"))
            solved = [Q_B @ ((Q_B.T @ v @ Q_A) / (Lambda + d)) @ Q_A.T for v, d in V]
            found |= {f"{name}/solve/{k}": np.array(solved)} if solved else {}
            diagonals.append(diagonal)
        found[f"{name}/diagonal"] = np.concatenate(diagonals)
    return found


def block(samples, sharing):
    """({(way, part): numbers}, the diagonal of F) of one group, sample by sample."""
    N = len(samples)
    G = np.concatenate([np.einsum("cto,ti->coi", g, a) for a, g, _ in samples])
    if sharing == "expand":
        rows_a = np.concatenate([a[on] for a, _, on in samples])
        rows_g = np.concatenate([g.reshape(-1, g.shape[2]) for _, g, _ in samples])
    else:
        rows_a = np.array([a[on].mean(0) for a, _, on in samples if on.any()])
        rows_g = np.concatenate([g.sum(1) for _, g, _ in samples])
    A, B = rows_a.T @ rows_a / len(rows_a), rows_g.T @ rows_g / N
    Q_B, Q_A = np.linalg.eigh(B)[1], np.linalg.eigh(A)[1]
    flat = G.reshape(len(G), -1)
    return {
        ("ekfac", "Q_B"): Q_B,
        ("ekfac", "Q_A"): Q_A,
        ("ekfac", "eigenvalues"): ((Q_B.T @ G @ Q_A) ** 2).sum(0) / N,
        ("kfac", "B"): B,
        ("kfac", "A"): A,
        ("exact_fisher", "matrix"): flat.T @ flat / N,
    }, (G**2).sum(0) / N


def main(folder):
    """Answer all questions of the folder."""
    for path in sorted(Path(folder).glob("questions/*/question.json")):
        question = json.loads(path.read_bytes())
        try:
            found = {name: x.tolist() for name, x in answer(question).items()}
        except Refused as error:
            (path.parent / "refused.txt").write_text(f"{error}\n")
            continue
        text = json.dumps({"key": question["key"], **found})
        (path.parent / "answer.json").write_text(text)
    (Path(folder) / "declared.json").write_text('{"name": "numpy"}')
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
