"""The operations that a page of `trace` steps through: their names, inputs, equations and code.

A step is a quantity of the model's program (`check/program.py`, `check/families/`), named by its
last part. `op` names its equations, in pages/equations.html, and its NumPy code below. The code is
read from the package when a page is made.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from minidistil import distilbert as page
from minidistil.check.families import family_ops
from minidistil.check.families.decoder_program import DecoderProgram
from minidistil.cli.html_page import PARTS
from minidistil.model import decoder
from minidistil.ops import gelu, relu, tanh


class Quantity(NamedTuple):
    """What a quantity is, its operation, and the quantities it is computed from."""

    what: str
    op: str
    reads: tuple[str, ...]  # of the same layer, or INPUT


INPUT = "input"  # of a layer: the previous layer's output; of the first the embeddings
LAST = "last"  # the last hidden states
AROUND_BLOCKS = {
    "embeddings_sum": Quantity("sum of the embedding tables' rows", "embedding", ()),
    "embeddings": Quantity("LayerNorm of the embeddings", "layernorm", ("embeddings_sum",)),
    "embeddings_mapping": Quantity("embeddings mapped to C channels", "linear", ("embeddings",)),
    "final_norm": Quantity("last LayerNorm", "layernorm", (LAST,)),
    "transform": Quantity("transform of the masked-LM head", "linear", (LAST,)),
    "transform_activation": Quantity("activation of the head", "activation", ("transform",)),
    "transform_norm": Quantity("LayerNorm of the head", "layernorm", ("transform_activation",)),
    "pooler": Quantity("linear layer on the first token", "pool", (LAST,)),
    "pooled": Quantity("activation of the first token", "activation", ("pooler",)),
    "spans": Quantity("two logits of each token", "linear", (LAST,)),
    "start_logits": Quantity("logits of the answer's start", "column", ("spans",)),
    "end_logits": Quantity("logits of the answer's end", "column", ("spans",)),
}
ATTENTION = {
    "scores": Quantity("scores of queries and keys", "scores", ("q", "k")),
    "context": Quantity("weighted mean of the values", "context", ("probs", "v")),
    "out": Quantity("output projection of attention", "linear", ("context",)),
}
FEED = {
    "activation": Quantity("activation", "activation", ("lin1",)),
    "lin2": Quantity("second feed-forward layer", "linear", ("activation",)),
}
NAMED = {"q": "queries", "k": "keys", "v": "values"}
POST_NORM = {
    **{name: Quantity(what, "linear", (INPUT,)) for name, what in NAMED.items()},
    **ATTENTION, **FEED,
    "probs": Quantity("attention weights", "weights", ("scores",)),
    "attention_sum": Quantity("residual sum around attention", "sum", (INPUT, "out")),
    "attention_norm": Quantity("LayerNorm after the sum", "layernorm", ("attention_sum",)),
    "lin1": Quantity("first feed-forward layer", "linear", ("attention_norm",)),
    "output_sum": Quantity("residual sum around the feed-forward", "sum",
                           ("attention_norm", "lin2")),
    "output": Quantity("LayerNorm after the sum", "layernorm", ("output_sum",)),
}  # fmt: skip
PRE_NORM = {
    "attention_norm": Quantity("LayerNorm before attention", "layernorm", (INPUT,)),
    **{name: Quantity(what, "linear", ("attention_norm",)) for name, what in NAMED.items()},
    **ATTENTION, **FEED,
    "probs": Quantity("attention weights, each token to itself and earlier ones", "causal_weights",
                  ("scores",)),
    "attention_sum": Quantity("residual sum around attention", "pre_norm_sum", (INPUT, "out")),
    "ffn_norm": Quantity("LayerNorm before the feed-forward", "layernorm", ("attention_sum",)),
    "lin1": Quantity("first feed-forward layer", "linear", ("ffn_norm",)),
    "output": Quantity("residual sum around the feed-forward", "pre_norm_sum",
                   ("attention_sum", "lin2")),
}  # fmt: skip
LOGITS = {  # a head: what its logits are, and what they are computed from
    "mlm": Quantity("logits of every word, by the embedding table", "linear", ("transform_norm",)),
    "lm": Quantity("logits of every next word, by the embedding table", "linear", ("final_norm",)),
    "tokens": Quantity("logits of each token's classes", "linear", (LAST,)),
}
CLASSES = Quantity("logits of the classes", "linear", ("pooled",))
ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "tanh": "tanh"}  # by config; others: GELU by tanh

CODE: dict[str, tuple[tuple[Callable, ...], tuple[Callable, ...]]] = {  # forward, backward
    "embedding": ((page.embedding,), (page.embedding_backward,)),
    "linear": ((page.linear,), (page.linear_backward,)),
    "pool": ((page.linear,), (page.linear_backward,)),
    "layernorm": ((page.layernorm,), (page.layernorm_backward,)),
    "scores": ((page.split_heads, page.attention_scores), (page.attention_backward,)),
    "weights": ((page.attention_weights, page.softmax), (page.softmax_backward,)),
    "causal_weights": ((family_ops.causal_weights, page.softmax), (page.softmax_backward,)),
    "context": ((page.attention, page.merge_heads), (page.attention_backward,)),
    "sum": ((page.block,), (page.block_backward,)),
    "pre_norm_sum": (
        (decoder.attention_sublayer, decoder.ffn_sublayer),
        (decoder.attention_sublayer_backward, decoder.ffn_sublayer_backward),
    ),
    "gelu": ((page.gelu,), (page.gelu_backward,)),
    "gelu_tanh": ((gelu.forward,), (gelu.backward,)),
    "relu": ((relu.forward,), (relu.backward,)),
    "tanh": ((tanh.forward,), (tanh.backward,)),
    "column": ((), ()),
    "cross_entropy": ((page.log_softmax, page.cross_entropy), (page.cross_entropy,)),
    "square": ((), ()),
}


def step_of(name: str, program: Any) -> Quantity:
    """A quantity of a program, by its name: with its op, and the full names of what it reads."""
    layer, _, last = name.rpartition(".")
    if layer:
        found = (PRE_NORM if isinstance(program, DecoderProgram) else POST_NORM)[last]
    elif last == "logits":
        found = next((LOGITS[head] for head in program.heads if head in LOGITS), CLASSES)
    else:
        found = AROUND_BLOCKS[last]
    op, a = found.op, program.a
    if op == "activation":
        kind = {"transform_activation": a.transform_activation, "pooled": a.pooler_activation}
        op = ACTIVATIONS.get(kind.get(last, a.activation), "gelu_tanh")
    return found._replace(op=op, reads=tuple(_full(n, layer, program) for n in found.reads))


def _full(name, layer, program):
    """The whole name of what a quantity of a layer reads."""
    if name == LAST:
        return f"layer.{program.a.L - 1}.output"
    if name != INPUT:
        return f"{layer}.{name}" if layer else name
    if number := int(layer.rpartition(".")[2]):
        return f"layer.{number - 1}.output"
    if isinstance(program, DecoderProgram):
        return "embeddings_sum"
    return "embeddings" if program.a.E is None else "embeddings_mapping"


def code_of(ops: set[str]) -> dict[str, dict[str, list]]:
    """{op: {"forward", "backward": [{"place", "text"}]}}, the source of each function."""
    return {
        op: {way: [_source(f) for f in functions]
             for way, functions in zip(("forward", "backward"), CODE[op], strict=True)}
        for op in sorted(ops)
    }  # fmt: skip


def _source(function):
    home = Path(inspect.getsourcefile(function)).resolve()
    lines, first = inspect.getsourcelines(function)
    place = home.relative_to(PARTS.parent.parent).as_posix()
    return {"place": f"{place}, line {first}", "text": "".join(lines).rstrip()}
