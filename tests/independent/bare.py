"""Every answer about bare a and g by loops over indices, in plain numbers: no array, no matrix.

a[n][t][i], g[n][c][t][o], counted[n][t]; a block's inputs alone. V and matrices are lists of rows.
"""

Matrix = list[list[float]]
Inputs, Gradients, Counted = list[Matrix], list[list[Matrix]], list[list[bool]]


def zeros(rows: int, columns: int) -> Matrix:
    return [[0.0] * columns for _ in range(rows)]


def gradients(a: Inputs, g: Gradients, counted: Counted) -> list[Matrix]:
    """All G_nc, entry by entry."""
    found = []
    for n in range(len(a)):
        for g_nc in g[n]:
            G = zeros(len(g_nc[0]), len(a[n][0]))
            for t in range(len(a[n])):
                for o in range(len(G)):
                    for i in range(len(G[0])):
                        G[o][i] += g_nc[t][o] * a[n][t][i] if counted[n][t] else 0.0
            found.append(G)
    return found


def fisher(G: list[Matrix], N: int) -> Matrix:
    """F[o d_in + i][p d_in + j] = (1/N) sum G[o][i] G[p][j]."""
    d_out, d_in = len(G[0]), len(G[0][0])
    F = zeros(d_out * d_in, d_out * d_in)
    for X in G:
        for o in range(d_out):
            for i in range(d_in):
                for p in range(d_out):
                    for j in range(d_in):
                        F[o * d_in + i][p * d_in + j] += X[o][i] * X[p][j] / N
    return F


def factors(a: Inputs, g: Gradients, counted: Counted, sharing: str) -> tuple[Matrix, Matrix]:
    """(B, A)."""
    rows_a, rows_g = [], []
    for n in range(len(a)):
        at = [t for t in range(len(a[n])) if counted[n][t]]
        if sharing == "expand":
            rows_a += [a[n][t] for t in at]
            rows_g += [g_nc[t] for g_nc in g[n] for t in at]
        elif at:
            rows_a.append([sum(a[n][t][i] for t in at) / len(at) for i in range(len(a[n][0]))])
            rows_g += [[sum(g_nc[t][o] for t in at) for o in range(len(g_nc[0]))] for g_nc in g[n]]
    return second_moment(rows_g, len(a)), second_moment(rows_a, len(rows_a))


def second_moment(rows: Matrix, count: int) -> Matrix:
    """The sum of x_i x_j over rows, over the count."""
    d = len(rows[0])
    return [[sum(x[i] * x[j] for x in rows) / count for j in range(d)] for i in range(d)]


def eigenvalues(G: list[Matrix], Q_B: Matrix, Q_A: Matrix, N: int) -> Matrix:
    """Lambda[r][s] = (1/N) sum (sum_oi Q_B[o][r] G[o][i] Q_A[i][s])^2."""
    Lambda = zeros(len(Q_B[0]), len(Q_A[0]))
    for r in range(len(Lambda)):
        for s in range(len(Lambda[0])):
            for X in G:
                inner = 0.0
                for o in range(len(Q_B)):
                    for i in range(len(Q_A)):
                        inner += Q_B[o][r] * X[o][i] * Q_A[i][s]
                Lambda[r][s] += inner**2 / N
    return Lambda


def kronecker(B: Matrix, A: Matrix) -> Matrix:
    """K[o d_in + i][p d_in + j] = B[o][p] A[i][j]."""
    return [
        [B[o][p] * A[i][j] for p in range(len(B)) for j in range(len(A))]
        for o in range(len(B))
        for i in range(len(A))
    ]


def in_basis(Q_B: Matrix, Q_A: Matrix, V: Matrix, by: Matrix) -> Matrix:
    """sum_rs by[r][s] <q_r q_s^T, V> q_r q_s^T."""
    found = zeros(len(Q_B), len(Q_A))
    for r in range(len(Q_B[0])):
        for s in range(len(Q_A[0])):
            inner = 0.0
            for o in range(len(Q_B)):
                for i in range(len(Q_A)):
                    inner += Q_B[o][r] * V[o][i] * Q_A[i][s]
            for o in range(len(Q_B)):
                for i in range(len(Q_A)):
                    found[o][i] += by[r][s] * inner * Q_B[o][r] * Q_A[i][s]
    return found


def product(M: Matrix, x: list[float]) -> list[float]:
    """M x, row by row."""
    return [sum(m * y for m, y in zip(row, x, strict=True)) for row in M]


def trace_of_product(F: Matrix, M: Matrix) -> float:
    """tr F M of two symmetric matrices."""
    return sum(F[i][j] * M[i][j] for i in range(len(F)) for j in range(len(F)))


def power(M: Matrix, p: int) -> Matrix:
    """M^p, one factor after the other."""
    d = len(M)
    found = [[float(i == j) for j in range(d)] for i in range(d)]
    for _ in range(p):
        found = [[sum(found[i][k] * M[k][j] for k in range(d)) for j in range(d)] for i in range(d)]
    return found
