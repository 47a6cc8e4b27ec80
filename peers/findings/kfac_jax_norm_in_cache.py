"""kfac-jax: update_cache leaves out the norm that it is told to scale the damping of a block by."""

import jax
import jax.numpy as jnp
import kfac_jax

key = jax.random.PRNGKey(0)
w, x, v = jnp.ones((1, 1)), jnp.array([[3.0]]), jnp.ones((1, 1))


def loss(w, batch):
    kfac_jax.register_normal_predictive_distribution(batch @ w, variance=1.0)
    return (batch @ w).sum()


# The matrix is the number x^2 = 9, so is its norm, and a damping of 2 norms is 18.
expected = 1 / (9.0 + 2 * 9.0)
full = {"dense": kfac_jax.DenseFull}
curvature = kfac_jax.BlockDiagonalCurvature(loss, layer_tag_to_block_ctor=full)
state = curvature.init(key, (w, x), -1, None)
state = curvature.update_curvature_matrix_estimate(
    state, 0.0, 1.0, 0.0, 1, key, (w, x), estimation_mode="fisher_exact"
)
state = curvature.update_cache(state, 2.0, -1, None, False, None, "avg_diag")
got = curvature.multiply_inverse(state, v, 2.0, True, True, None, "avg_diag")[0, 0]
print(f"expected {expected:.9g}, got {got:.9g}")
