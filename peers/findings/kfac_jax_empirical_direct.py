"""kfac-jax: fisher_empirical_direct is N times smaller than the fisher_empirical it is like."""

import jax
import jax.numpy as jnp
import kfac_jax

keys = jax.random.split(jax.random.PRNGKey(0), 3)
w, x = jax.random.normal(keys[0], (3, 2)), jax.random.normal(keys[1], (7, 3))
y = jax.random.normal(keys[2], (7, 2))


def loss(w, batch):
    f = batch @ w
    kfac_jax.register_normal_predictive_distribution(f, y, variance=1.0)
    return jnp.square(f - y).sum() / 2 / len(batch)


# NaiveFull is (sum_i g_i) (sum_i g_i)^T / N, and the mode divides by N once more, says its
# documentation: that is the square of the mean gradient.
expected = jnp.square(jax.grad(loss)(w, x)).sum()
tags = {"generic": kfac_jax.NaiveFull}
curvature = kfac_jax.BlockDiagonalCurvature(
    loss, layer_tag_to_block_ctor=tags, auto_register_kwargs={"register_only_generic": True}
)
state = curvature.init(keys[0], (w, x), None, None)
state = curvature.update_curvature_matrix_estimate(
    state, 0.0, 1.0, 0.0, len(x), keys[0], (w, x), estimation_mode="fisher_empirical_direct"
)
print(f"expected {expected:.9g}, got {curvature.eigenvalues(state, use_cached=False).sum():.9g}")
