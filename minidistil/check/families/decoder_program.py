"""GPT-2 as a list of named quantities.

embeddings_sum                                        word[id] + position[column]
layer.i.attention_norm, q … out, attention_sum        u = x + attention(LN(x)), causal
layer.i.ffn_norm, lin1, activation, lin2, output      y = u + ffn(LN(u))
final_norm, logits, loss                              the loss where the batch has labels
"""

import numpy as np

from minidistil.check.families.causal_batch import causal_batch
from minidistil.check.families.family_ops import FAMILY_OPS
from minidistil.check.families.module_call import call_with_roles
from minidistil.check.layer_run import LayerRun
from minidistil.check.layouts import Frame
from minidistil.check.program import Program
from minidistil.check.reference_ops import RIGHT
from minidistil.model.decoder import split_qkv
from minidistil.model.encoder import scope
from minidistil.model.heads import heads_of
from minidistil.model.names import is_transposed
from minidistil.model.rows import pack

LINEAR = ("q", "k", "v", "out", "lin1", "lin2", "patch", "classifier", "pooler", "cls_classifier",
          "distillation_classifier")  # fmt: skip
PRE_NORM_SITES = {
    "linear": (("q", "k", "v", "out", "lin1", "lin2"), ("q", "k", "v"), ("q", "k"), ("k", "v"),
               ("lin1", "lin2"), ("q", "k", "v", "out"), *((site,) for site in LINEAR)),
    "layernorm": (None, ("attention_norm", "ffn_norm"), ("attention_norm",), ("ffn_norm",),
                  ("final_norm",)),
    "residual": (None, ("attention_sum",), ("output",)),
    "activation": (("activation",), ("pooler_activation",)),
}  # fmt: skip


def by_thirds(named):
    """{canonical name: array}  ->  the same with `q`, `k` and `v` in place of each `qkv`."""
    found = {name: x for name, x in named.items() if ".qkv." not in name}
    for layer in {name.rpartition(".qkv.")[0] for name in named if ".qkv." in name}:
        block = split_qkv(scope(named, layer))
        found |= {
            f"{layer}.{name}": x for name, x in block.items() if name[:2] in ("q.", "k.", "v.")
        }
    return found


class PreNormProgram(Program):
    """What GPT-2 and ViT share: blocks whose LayerNorm precedes the sublayer, and a final norm."""

    right = RIGHT | FAMILY_OPS
    sites = PRE_NORM_SITES
    features = "final_norm"  # what the word table scores

    def _set(self, p, frame):
        """The parts of a Program; p: parameters by role."""
        self.p, self.frame, self.mask = p, frame, frame.mask
        self.layers = [scope(p, f"layer.{i}") for i in range(self.a.L)]
        self.stages = ("embeddings", *(f"layer.{i}" for i in range(self.a.L)), "head")
        self.body = "final_norm"

    def _weights(self, s, do):
        """Scores  ->  attention weights."""
        return do("weights", "weights", s, self.mask)

    def _layer(self, i, x, do, values):
        source = do("layer_of", f"layer.{i}", i)  # a number, or the parameters themselves
        p = source if isinstance(source, dict) else self.layers[source]
        run = LayerRun(self.a, i, p, do, values)

        def norm(site):
            return lambda z: run.keep(site, run.norm(site, z))

        y = do(
            "pre_norm_block", "pre_norm_block", x,
            lambda z: run.attention((z, z, z), lambda s: self._weights(s, do)),
            norm("attention_norm"), run.feed, norm("ffn_norm"), run.residual,
        )  # fmt: skip
        return run.keep("output", y)

    def _last_norm(self, x, do, values):
        norm = (self.p["final_norm.weight"], self.p["final_norm.bias"])
        h = do("last_norm", "last_norm", x,
               lambda z: do("layernorm", "final_norm", z, *norm, eps=self.a.eps))  # fmt: skip
        values["final_norm"] = h
        return h


class DecoderProgram(PreNormProgram):
    """GPT-2."""

    ops = (
        "layernorm", "linear", "activation", "residual", "heads", "scores", "layer_of",
        "projection", "embedding_sum", "places", "causal_weights", "pre_norm_block", "last_norm",
        "next_token_loss", "token_loss",
    )  # fmt: skip
    reads = ("input_ids", "attention_mask", "labels", "targets")
    holes, second = False, "other random tokens"
    example = staticmethod(causal_batch)
    call = staticmethod(call_with_roles)

    def __init__(self, model, batch, dtype=np.float64):
        self.a = model.config.architecture
        self.heads = heads_of(model.config, model.task)
        self.inputs = {n: np.asarray(batch[n]) for n in self.reads[:2] if n in batch}
        self.wanted = {n: np.asarray(batch[n]) for n in self.reads[2:] if n in batch}
        mask = pack(batch["input_ids"], batch.get("attention_mask"), None, self.a).mask
        self.ids = self.inputs["input_ids"].astype(np.int64)
        params = {c: x.astype(dtype) for c, x in self.by_role(model, model.params).items()}
        self._set(params, Frame(mask, self.a.H, self.a.C))
        self.names = self.roles(model)

    @staticmethod
    def roles(model):
        return {
            role: public for name, public in model.names.items()
            for role in ([name.replace("qkv", z) for z in "qkv"] if ".qkv." in name else [name])
        }  # fmt: skip

    @classmethod
    def by_role(cls, model, named):
        return by_thirds({
            c: np.asarray(named[name]).T if is_transposed(c, model.config) else named[name]
            for c, name in model.names.items()
        })  # fmt: skip

    def _weights(self, s, do):
        return do("causal_weights", "causal_weights", s, self.mask)

    def _embed(self, do, values):
        word, position = (self.p[f"embeddings.{kind}.weight"] for kind in ("word", "position"))

        def look_up(columns):
            if np.array_equal(columns, np.arange(self.ids.shape[1])):
                return do("embedding_sum", "embedding_sum", word, position, ids=self.ids)
            return word[self.ids] + position[columns]

        values["embeddings_sum"] = x = do("places", "places", look_up, mask=self.mask)
        return x

    def _head(self, x, do, values):
        h = self._last_norm(x, do, values)
        if "lm" not in self.heads:
            return h
        word = self.p["embeddings.word.weight"]
        no_bias = np.zeros(len(word), word.dtype)
        values["logits"] = z = do("projection", "decoder", h, word, no_bias)
        for name, op in (("labels", "next_token_loss"), ("targets", "token_loss")):
            if name in self.wanted:
                values["loss"] = np.reshape(do(op, "loss", z, self.wanted[name]), 1)
        return h
