"""kfac-jax: fisher_exact of classes at T positions takes p at all of them from every column."""

import jax
import jax.numpy as jnp
import kfac_jax

keys = jax.random.split(jax.random.PRNGKey(0), 2)
w, x = jax.random.normal(keys[0], (3, 4)), jax.random.normal(keys[1], (5, 6, 3))  # [N, T, d]


def loss(w, batch):
    kfac_jax.register_softmax_cross_entropy_loss(batch @ w)
    return (batch @ w).sum()


# The Fisher's trace is the mean over samples of sum_t sum_c p_tc |grad log p_tc|^2.
expected = 0.0
for xn in x:
    gradients = jax.jacrev(lambda w, xn=xn: jax.nn.log_softmax(xn @ w))(w)  # [T, C, *w]
    p = jax.nn.softmax(xn @ w)
    expected += (p * jnp.square(gradients).sum((2, 3))).sum() / len(x)

curvature = kfac_jax.ExplicitExactCurvature(loss, default_estimation_mode="fisher_exact")
state = curvature.init(keys[0], (w, x), None, None)
state = curvature.update_curvature_matrix_estimate(state, 0.0, 1.0, 0.0, 5, keys[0], (w, x))
got = curvature.eigenvalues(state, use_cached=False).sum()
print(f"expected {expected:.9g}, got {got:.9g}")
