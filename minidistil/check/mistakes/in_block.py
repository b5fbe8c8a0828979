"""Mistakes in the structure of a block: residuals, order, weights, the layer's parameters."""

from minidistil.check import reference_ops
from minidistil.check.mistakes.registry import mistake

RIGHT = "u = LN(x + attention(x)),  y = LN(u + ffn(u))"


@mistake(
    "pre-norm", "block", values=("pre-norm", "pre-norm, without the second"),
    says="LayerNorm precedes attention and feed-forward instead of following the sums ({}).",
    yours="u = x + attention(LN(x)),  y = u + ffn(LN(u))", right=RIGHT,
    fix="post-norm: add the residual, then normalise the sum",
)  # fmt: skip
def pre_norm(x, attend, attention_norm, feed, output_norm, residual, *, value):
    u = residual(x, attend(attention_norm(x)), "attention_sum")
    between = output_norm(u) if value == "pre-norm" else u
    return residual(u, feed(between), "output_sum")


@mistake(
    "hidden-before-norm", "block",
    says="The hidden state is taken before its last LayerNorm.",
    yours="y = u + ffn(u)", right=RIGHT, fix="pass on LN(u + ffn(u)), the LayerNorm's output",
)  # fmt: skip
def hidden_before_norm(x, attend, attention_norm, feed, output_norm, residual):
    u = attention_norm(residual(x, attend(x), "attention_sum"))
    return residual(u, feed(u), "output_sum")


@mistake(
    "sublayers-swapped", "block",
    says="The feed-forward precedes attention.",
    yours="u = LN(x + ffn(x)),  y = LN(u + attention(u))", right=RIGHT,
    fix="attention first, then the feed-forward",
)  # fmt: skip
def sublayers_swapped(x, attend, attention_norm, feed, output_norm, residual):
    u = output_norm(residual(x, feed(x), "output_sum"))
    return attention_norm(residual(u, attend(u), "attention_sum"))


@mistake(
    "residual-missing", "residual",
    says="The residual is not added.",
    yours="s = f(x)", right="s = x + f(x)", fix="add the input of the sublayer to its output",
)  # fmt: skip
def residual_missing(x, y):
    return y


@mistake(
    "residual-doubled", "residual", values=("the input", "the output"),
    says="The residual is added twice: {} counts double.",
    yours="s = 2x + f(x) or x + 2f(x)", right="s = x + f(x)",
    fix="add once; look for a sublayer that already adds the residual",
)  # fmt: skip
def residual_doubled(x, y, *, value):
    return 2 * x + y if value == "the input" else x + 2 * y


@mistake(
    "weight-untransposed", "linear",
    says="A weight is used untransposed.",
    yours="y = x·W + b", right="y = x·Wᵀ + b,  W (out, in) as torch.nn.Linear stores it",
    fix="multiply by Wᵀ (in PyTorch F.linear), or transpose a weight stored as (in, out)",
)  # fmt: skip
def weight_untransposed(x, weight, bias):
    if weight.shape[0] != weight.shape[1]:
        return reference_ops.linear(x, weight, bias)
    return reference_ops.linear(x, weight.T, bias)


@mistake(
    "linear-missing", "linear",
    says="A linear layer is left out.",
    yours="y = x", right="y = x·Wᵀ + b",
    fix="apply the layer (in PyTorch nn.Identity may stand in its place)",
)  # fmt: skip
def linear_missing(x, weight, bias):
    return x if x.shape[-1] == len(weight) else reference_ops.linear(x, weight, bias)


@mistake(
    "bias-missing", "linear",
    says="A bias is not added.",
    yours="y = x·Wᵀ", right="y = x·Wᵀ + b", fix="add the bias, and load it",
)  # fmt: skip
def bias_missing(x, weight, bias):
    return reference_ops.linear(x, weight, 0 * bias)


@mistake(
    "layer-missing", "block",
    says="A layer is left out: what follows reads the layer's input.",
    yours="y = x", right=RIGHT, fix="count the layers that run, and those that are built",
)  # fmt: skip
def layer_missing(x, attend, attention_norm, feed, output_norm, residual):
    return x


@mistake(
    "layers-order", "layer_of", values=lambda known: orders(1 + len(known.indices)),
    says="The layers run in another order: {}.",
    yours="{}", right="layer 0, 1, 2, …", fix="check the order of the list of layers",
)  # fmt: skip
def layers_order(i, *, value):
    return int(value.split(", ")[i])


def orders(L):
    """Orders of L layers in which they may run by mistake, as text."""
    rotated = [[(i + k) % L for i in range(L)] for k in range(1, L)]
    found = [list(range(L))[::-1], *rotated, sorted(range(L), key=str)]
    found = [", ".join(map(str, order)) for order in found if order != sorted(order)]
    return tuple(dict.fromkeys(found))


@mistake(
    "wrong-layers-copied", "layer_of", values=lambda known: known.layers,
    says="The block holds the parameters of another layer: {}.",
    yours="parameters of layer {}", right="layer i of the model in layer i of the module",
    fix="check the list of layers that the student copies, and its order",
)  # fmt: skip
def wrong_layer(i, *, value):
    return value
