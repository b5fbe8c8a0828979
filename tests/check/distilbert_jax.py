"""DistilBERT for masked words in JAX, with jax.grad, to be compared by `minidistil check`.

    python tests/check/distilbert_jax.py FOLDER inputs.safetensors theirs.safetensors

inputs.safetensors comes from `minidistil trace FOLDER --inputs-only`: its tensors are the batch,
its header gives sizes of the model and the name of each parameter in model.safetensors.
theirs.safetensors receives the values, the gradients of the loss with respect to some of them and
to every parameter, under the names and in the layouts of this program: kernels are (inputs,
outputs), with an axis for the heads as Flax's are.

A fourth argument plants a mistake: see MISTAKES.
"""

import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

MISTAKES = (
    "gelu", "epsilon", "softmax-axis", "kernel", "scale",  # in the forward
    "tied", "norm-backward", "frozen", "sum",  # in the gradients alone
)  # fmt: skip
mistake = None


def read(folder, inputs):
    """The parameters as a tree, the batch, and the header's texts."""
    weights = load_file(f"{folder}/model.safetensors")
    with safe_open(inputs, "np") as file:
        about, names = file.metadata(), file.keys()
        batch = {n.removeprefix("input."): jnp.asarray(file.get_tensor(n)) for n in names}
    H = int(about["n_heads"])

    def get(role):
        return jnp.asarray(weights[about[role]])

    def dense(role):
        kernel = get(f"{role}.weight")
        return {"kernel": kernel if mistake == "kernel" and role.endswith("out") else kernel.T,
                "bias": get(f"{role}.bias")}  # fmt: skip

    def by_head(role):  # (C,H,D)
        x = dense(role)
        return {name: w.reshape(*w.shape[:-1], H, -1) for name, w in x.items()}

    def norm(role):
        return {"scale": get(f"{role}.weight"), "bias": get(f"{role}.bias")}

    params = {
        "embed": {"word": get("embeddings.word.weight"), "position":
                  get("embeddings.position.weight"), "norm": norm("embeddings.norm")},
        "head": {"dense": dense("transform"), "norm": norm("transform_norm"),
                 "bias": get("decoder.bias")},
    }  # fmt: skip
    for i in range(int(about["n_layers"])):
        x = f"layer.{i}"
        params[f"block_{i}"] = {
            "query": by_head(f"{x}.q"), "key": by_head(f"{x}.k"), "value": by_head(f"{x}.v"),
            "out": dense(f"{x}.out"), "norm_1": norm(f"{x}.attention_norm"),
            "wide": dense(f"{x}.lin1"), "narrow": dense(f"{x}.lin2"),
            "norm_2": norm(f"{x}.output_norm"),
        }  # fmt: skip
    return params, batch, about


# ----------------------------------------------------------------------------- the model


def normed(x, eps):
    """(x − mean)/√(variance + ε) over the channels."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + eps)


@jax.custom_vjp
def normed_by_hand(x, eps):
    """`normed` with a backward that takes mean and variance for constants, which they are not."""
    return normed(x, eps)


def _forward(x, eps):
    return normed(x, eps), (x, eps)


def _backward(kept, dy):
    x, eps = kept
    return dy / jnp.sqrt(x.var(-1, keepdims=True) + eps), None


normed_by_hand.defvjp(_forward, _backward)


class Network:
    """values: every value of the last call. nudges {name: zeros} are added to the values of these
    names, so that the gradients with respect to nudges are those with respect to the values."""

    def __init__(self, about, nudges=None):
        self.eps = 1e-6 if mistake == "epsilon" else float(about["eps"])
        self.L, self.values, self.nudges = int(about["n_layers"]), {}, nudges or {}

    def keep(self, name, x):
        self.values[name] = x + self.nudges.get(name, 0)
        return self.values[name]

    def norm(self, p, x):
        rule = normed_by_hand if mistake == "norm-backward" else normed
        return rule(x, self.eps) * p["scale"] + p["bias"]

    def gelu(self, x):
        return jax.nn.gelu(x, approximate=mistake == "gelu")  # JAX's default is the tanh form

    def block(self, name, p, x, mask):
        def keep(key, y):
            return self.keep(f"{name}/{key}", y)

        def split(key):  # (B,T,H,D)
            return keep(key, jnp.einsum("btc,chd->bthd", x, p[key]["kernel"]) + p[key]["bias"])

        q, k, v = split("query"), split("key"), split("value")
        D = x.shape[-1] if mistake == "scale" else q.shape[-1]
        scores = keep("scores", jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(D))
        masked = jnp.where(mask[:, None, None, :] == 1, scores, jnp.finfo(x.dtype).min)
        weights = keep("weights", jax.nn.softmax(masked, -2 if mistake == "softmax-axis" else -1))
        context = keep("context", jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape))
        out = keep("out", context @ p["out"]["kernel"] + p["out"]["bias"])
        u = keep("norm_1", self.norm(p["norm_1"], x + out))
        h = keep("wide", u @ p["wide"]["kernel"] + p["wide"]["bias"])
        f = keep("narrow", self.gelu(h) @ p["narrow"]["kernel"] + p["narrow"]["bias"])
        return keep("norm_2", self.norm(p["norm_2"], u + f))

    def __call__(self, params, batch):
        embed, head = params["embed"], params["head"]
        if mistake == "frozen":
            embed = jax.lax.stop_gradient(embed)
        x = embed["word"][batch["input_ids"]] + embed["position"][: batch["input_ids"].shape[1]]
        x = self.keep("embedded", self.norm(embed["norm"], x))
        for i in range(self.L):
            x = self.block(f"block_{i}", params[f"block_{i}"], x, batch["attention_mask"])
        h = self.keep("head/dense", x @ head["dense"]["kernel"] + head["dense"]["bias"])
        t = self.keep("head/gelu", self.gelu(h))
        word = params["embed"]["word"]  # the head's last layer is the word table once more
        word = jax.lax.stop_gradient(word) if mistake == "tied" else word
        n = self.keep("head/norm", self.norm(head["norm"], t))
        return self.keep("logits", n @ word.T + head["bias"])


def cross_entropy(z, labels):
    """Mean of −ln softmax(z)[label] over the labels that are not −100 (with "sum", their sum)."""
    log_p = jax.nn.log_softmax(z)
    chosen = jnp.take_along_axis(log_p, jnp.maximum(labels, 0)[..., None], -1)[..., 0]
    count = 1 if mistake == "sum" else (labels != -100).sum()
    return -jnp.where(labels == -100, 0, chosen).sum() / count


# ----------------------------------------------------------------------------- the file


def flat(tree, name=""):
    """A tree of dicts  ->  {"a/b/c": array}."""
    if not isinstance(tree, dict):
        return {name: np.asarray(tree)}
    inner = (flat(x, f"{name}/{key}" if name else key) for key, x in tree.items())
    return {key: x for part in inner for key, x in part.items()}


def computed(params, batch, about):
    """{name: array}: values, and under grad/ the gradients."""
    network = Network(about)
    network(params, batch)
    nudges = {name: jnp.zeros_like(x) for name, x in network.values.items()}

    def loss(params, nudges):
        return cross_entropy(Network(about, nudges)(params, batch), batch["labels"])

    value, (dparams, dvalues) = jax.value_and_grad(loss, (0, 1))(params, nudges)
    given = {name: np.asarray(batch[name]) for name in ("input_ids", "attention_mask")}
    return given | flat(network.values) | flat(dparams, "grad") | flat(dvalues, "grad_of") | {
        "loss": np.asarray(value)}  # fmt: skip


if __name__ == "__main__":
    folder, inputs, out, *planted = sys.argv[1:]
    if planted and planted[0] not in MISTAKES:
        sys.exit(f"the mistake must be one of {', '.join(MISTAKES)}, not {planted[0]}")
    mistake = planted[0] if planted else None
    arrays = computed(*read(folder, inputs))
    save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, out)
