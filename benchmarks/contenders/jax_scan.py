"""The MLP VAE in JAX: a whole epoch is one compiled `lax.scan`, with optax's Adam."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import worker

Weights = dict[str, jax.Array]


def start(key: jax.Array) -> Weights:
    """Return weights drawn as the other contenders draw them, N(0, 2 / fan_in)."""
    sizes = {"enc": (784, 512), "mu": (512, worker.LATENT), "lv": (512, worker.LATENT)}
    sizes |= {"dec": (worker.LATENT, 512), "out": (512, 784)}
    made = {}
    for (name, (fan_in, fan_out)), one in zip(sizes.items(), jax.random.split(key, len(sizes)), strict=True):
        made[f"{name}_w"] = jax.random.normal(one, (fan_in, fan_out)) * (2 / fan_in) ** 0.5
        made[f"{name}_b"] = jnp.zeros(fan_out)
    return made


def loss(weights: Weights, x: jax.Array, key: jax.Array) -> jax.Array:
    """Return minus the ELBO of a batch, in nats, with one sample and the closed-form KL."""

    def layer(name: str, given: jax.Array) -> jax.Array:
        return given @ weights[f"{name}_w"] + weights[f"{name}_b"]

    hidden = jax.nn.relu(layer("enc", x))
    mu, log_var = layer("mu", hidden), layer("lv", hidden)
    z = mu + jnp.exp(0.5 * log_var) * jax.random.normal(key, mu.shape)
    logits = layer("out", jax.nn.relu(layer("dec", z)))
    distortion = (jax.nn.softplus(logits) - x * logits).sum(-1)
    rate = 0.5 * (mu**2 + jnp.exp(log_var) - 1 - log_var).sum(-1)
    return (distortion + rate).mean()


def main() -> None:
    """Serve epochs."""
    x = jnp.asarray(worker.images())
    optimizer = optax.adam(worker.LR)
    state = start(jax.random.key(0)), optimizer.init(start(jax.random.key(0)))

    def step(state: tuple, given: tuple) -> tuple[tuple, jax.Array]:
        (weights, moments), (index, key) = state, given
        value, gradient = jax.value_and_grad(loss)(weights, x[index].astype(jnp.float32), key)
        updates, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(weights, updates), moments), value

    @jax.jit
    def run(state: tuple, key: jax.Array) -> tuple[tuple, jax.Array]:
        order = jax.random.permutation(key, len(x)).reshape(-1, worker.BATCH)
        return jax.lax.scan(step, state, (order, jax.random.split(key, len(order))))

    keys = iter(jax.random.split(jax.random.key(1), 10_000))

    def epoch() -> None:
        nonlocal state
        state, losses = run(state, next(keys))
        losses.block_until_ready()

    worker.serve(epoch, lambda: {name: np.asarray(value) for name, value in state[0].items()})


if __name__ == "__main__":
    main()
