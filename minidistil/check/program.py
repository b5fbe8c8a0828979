"""The reference as a list of named quantities, computed in stages, with one op replaceable.

The stages are the embeddings, the L layers and the head. A stage can run alone from the hidden
states before it; mistakes are tried in the stage of the first difference.
"""

from typing import NamedTuple

import numpy as np

from minidistil.check.layer_run import LayerRun
from minidistil.check.layouts import Frame
from minidistil.check.reference_batch import READ, example, with_holes
from minidistil.check.reference_ops import OBJECTIVES, RIGHT
from minidistil.model.encoder import scope
from minidistil.model.heads import POOLERS, SENTENCE_PAIR_HEADS, heads_of
from minidistil.model.rows import pack, pack_choices

TABLES = "embeddings"
LAYER = ("q", "k", "v", "scores", "probs", "context", "out", "attention_sum", "attention_norm",
         "lin1", "activation", "lin2", "output_sum", "output")  # fmt: skip
# {quantity: later quantities of the layer that do not depend on it}
BESIDE = {"q": ("k", "v"), "k": ("v",), "v": ("scores", "probs"), "cross_q": ("cross_k", "cross_v"),
          "cross_k": ("cross_v",), "cross_v": ("cross_scores", "cross_probs")}  # fmt: skip
BEFORE_MEMORY = [f"decoder.layer.0.{name}" for name in (*LAYER[:9], "cross_q")]
MEMORY = (".cross_k", ".cross_v")  # all that a decoder's layer computes of the encoder's output
# The sites of an op, and the groups of sites that usually share a mistake; None is all sites.
LINEAR = ("q", "k", "v", "out", "lin1", "lin2", "transform", "pooler", "dense", "classifier",
          "out_proj", "spans", "nsp", "embeddings_mapping")  # fmt: skip
SITES = {
    "linear": (("q", "k", "v", "out", "lin1", "lin2"), ("q", "k", "v"), ("q", "k"), ("k", "v"),
               ("q", "v"), ("q", "k", "v", "out"), ("lin1", "lin2"), *((s,) for s in LINEAR)),
    "layernorm": (None, ("attention_norm", "output_norm"), ("embeddings",), ("attention_norm",),
                  ("output_norm",), ("transform_norm",)),
    "residual": (None, ("attention_sum",), ("output_sum",)),
    "activation": (("activation", "transform_activation"), ("activation",),
                   ("transform_activation",), ("pooler_activation",)),
}  # fmt: skip


# {op or site: the first quantity that it changes}, where that is not the site's own.
CHANGES = {"scores": "scores", "context_of": "scores", "weights": "probs", "heads": "scores",
           "block": "q", "layer_of": "q", "embedding_sum": "embeddings_sum", "pool": "pooler",
           "projection": "logits", "output_norm": "output", "classifier": "logits",
           "dense": "pooler", "out_proj": "logits",
           "text_vector": "sentence_embedding",
           "places": "embeddings_sum", "causal_weights": "probs", "last_norm": "final_norm",
           "pre_norm_block": "attention_norm", "next_token_loss": "loss", "token_loss": "loss",
           "cross_block": "q", "cross_source": "cross_k", "cross_weights": "cross_probs",
           "decoder_ids": "embeddings_sum", "pixels": "embeddings_patches",
           "cut": "embeddings_patches", "patch": "embeddings_patches",
           "token_order": "embeddings_tokens", "grid_positions": "embeddings_sum",
           "image_pool": "logits", "answer": "logits", "cls_classifier": "cls_logits",
           "distillation_classifier": "distillation_logits",
           "nsp": "seq_relationship_logits", "pooler_activation": "pooled"}  # fmt: skip

LATER = {"heads": {"context"}, "context_of": {"context"}, "block": {"output"},
         "pre_norm_block": {"attention_sum", "ffn_norm", "output"},
         "cross_block": {"attention_sum", "cross_q", "cross_sum", "lin1", "output"}}  # fmt: skip


class Planted(NamedTuple):
    """A mistake that replaces an op. sites: None for all of them."""

    op: str
    wrong: object
    sites: tuple | None = None

    def changes(self):
        """The quantities, without their layer, that may be the first to differ."""
        sites = self.sites or [site for some in SITES.get(self.op, ()) for site in some or ()]
        names = {CHANGES.get(site, site) for site in (sites if self.op in SITES else (self.op,))}
        return names | LATER.get(self.op, set())


class Program:
    """An encoder with the heads of a task and a batch, in one dtype; the base of other families'.

    run(...) -> {name: array}: quantities of tokens are (B,T,·), scores and weights (B,H,T,T),
    quantities of texts (B,·). A batch of choices (B,choices,T) is one of B·choices texts.
    p: the parameters by role, each (out,in). names: {role: name in the checkpoint}. inputs: the
    arguments of the model's forward. body: the quantity that a bare body returns.
    """

    right = RIGHT  # {op: function}
    ops = tuple(op for op in RIGHT if op not in OBJECTIVES)  # whose mistakes are tried
    sites = SITES
    reads = READ  # the arrays of a batch
    holes = True  # whether the mask of a text may have some
    second = "other random words, with holes in the mask and a text of full length"  # batch
    call = None  # (module, inputs): runs a module whose arguments are not those of an encoder
    word = "embeddings.word.weight"  # the table that scores the words
    features = "transform_norm"  # what it scores

    def __init__(self, model, batch, dtype=np.float64):
        self.a, self.heads = model.config.architecture, heads_of(model.config, model.task)
        self.p = {n: x.astype(dtype, copy=False) for n, x in model.named_by_role().items()}
        self.layers = [scope(self.p, f"layer.{block}") for block in self.a.blocks]
        self.pooling = getattr(model, "pooling", None)  # of a sentence embedding
        batch = {name: np.asarray(x) for name, x in batch.items()}
        packed = pack_choices if batch["input_ids"].ndim == 3 else pack
        self.rows = packed(*(batch.get(name) for name in READ), self.a)
        self.mask = self.rows.mask
        self.ids = batch["input_ids"].reshape(self.mask.shape).astype(np.int64)
        types = batch.get("token_type_ids", np.zeros_like(self.ids))
        self.types = types.reshape(self.mask.shape).astype(np.int64)
        self.stages = (TABLES, *(f"layer.{i}" for i in range(self.a.L)), "head")
        self.frame, self.names = Frame(self.mask, self.a.H, self.a.C), self.roles(model)
        self.body, self.inputs = f"layer.{self.a.L - 1}.output", batch

    @staticmethod
    def example(model, folder, texts=None, seed=0, module=None):
        """A batch of texts or of random tokens; for a module, padded, as padding makes mistakes of
        the mask visible."""
        return example(model, folder, texts, seed, room=0 if module is None else 2)

    def ways(self, shape):
        """The ways to split a weight of this shape that this family alone has."""
        return ()

    @classmethod
    def examples(cls, model, folder, texts=None, seed=0, module=None):
        """The batches of a comparison: the texts alone, or two batches of random tokens."""
        first = cls.example(model, folder, texts, seed, module)
        if texts:
            return [first]
        if cls.holes:
            return [first, with_holes(model, seed + 1)]
        return [first, cls.example(model, folder, None, seed + 1, module)]

    @staticmethod
    def roles(model):
        """{name of a parameter in p: its name in the checkpoint}."""
        return model.names

    @classmethod
    def by_role(cls, model, named):
        """Parameters or gradients under the checkpoint's names  ->  under the names of p."""
        return {role: np.asarray(named[public]) for role, public in cls.roles(model).items()}

    def run(self, planted=None, start=0, x=None, stop=None):
        """All quantities of stages start … stop − 1, and the last hidden states under None.

        planted: a Planted mistake, in all of these stages. x: the hidden states before `start`.
        """
        values = {}
        for number in range(start, len(self.stages) if stop is None else stop):
            x = self._stage(number, x, planted, values)
        values[None] = x
        return values

    def _stage(self, number, x, planted, values):
        def do(op, site, *args, **fixed):
            wrong = planted and planted.op == op and (not planted.sites or site in planted.sites)
            return (planted.wrong if wrong else self.right[op])(*args, **fixed)

        return self._compute(number, x, do, values)

    def _compute(self, number, x, do, values):
        if number == 0:
            return self._embed(do, values)
        if number <= self.a.L:
            return self._layer(number - 1, x, do, values)
        return self._head(x, do, values)

    def _embed(self, do, values):
        tables = [self.p.get(f"embeddings.{kind}.weight") for kind in ("word", "position", "type")]
        before, place = self.a.padding_position, {"ids": self.ids, "types": self.types}
        place["first"] = 0 if before is None else before + 1
        s = do("embedding_sum", "embedding_sum", *tables, **place)
        values["embeddings_sum"] = s
        norm = (self.p["embeddings.norm.weight"], self.p["embeddings.norm.bias"])
        x = values["embeddings"] = do("layernorm", "embeddings", s, *norm, eps=self.a.eps)
        if mapped := scope(self.p, "embeddings.mapping"):  # ALBERT's E channels onto C
            x = do("linear", "embeddings_mapping", x, mapped["weight"], mapped["bias"])
            values["embeddings_mapping"] = x
        return x

    def _layer(self, i, x, do, values):
        source = do("layer_of", f"layer.{i}", i)  # a number, or the parameters themselves
        p = source if isinstance(source, dict) else self.layers[source]
        run = LayerRun(self.a, i, p, do, values)

        def weights(s):
            return do("weights", "probs", s, self.mask)

        def context(y, q, k, v):
            return do("context_of", "context", y, q, k, v, mask=self.mask, n_heads=self.a.H)

        y = do(
            "block", "block", x,
            lambda z: run.attention((z, z, z), weights, context_of=context),
            lambda z: run.keep("attention_norm", run.norm("attention_norm", z)),
            run.feed, lambda z: run.norm("output_norm", z), run.residual,
        )  # fmt: skip
        return run.keep("output", y)

    def _head(self, h, do, values):
        def linear(site, z):
            weight, bias = self.p[f"{site}.weight"], self.p[f"{site}.bias"]
            return do("linear", site, z, weight, bias)

        if "mlm" in self.heads:
            t = values["transform"] = linear("transform", h)
            name = self.a.transform_activation
            g = do("activation", "transform_activation", t, name=name)
            values["transform_activation"] = g
            norm = (self.p["transform_norm.weight"], self.p["transform_norm.bias"])
            n = do("layernorm", "transform_norm", g, *norm, eps=self.a.eps)
            values["transform_norm"] = n
            table = (self.p["embeddings.word.weight"], self.p["decoder.bias"])
            values["logits"] = do("projection", "decoder", n, *table)
        if "tokens" in self.heads:
            values["logits"] = linear("classifier", h)
        if "spans" in self.heads:
            z = values["spans"] = linear("spans", h)
            values["start_logits"], values["end_logits"] = do("spans", "ends", z)
        if self.pooling is not None:
            kind = {"mode": self.pooling.mode, "normalize": self.pooling.normalize}
            values["sentence_embedding"] = do("text_vector", "text", h, self.mask, **kind)
        elif first := next((site for site in POOLERS if site in self.heads), None):
            z = values["pooler"] = linear(first, do("pool", "pool", h, self.mask))
            name = self.a.pooler_activation
            values["pooled"] = pooled = do("activation", "pooler_activation", z, name=name)
            if {"classifier", "choice"} & set(self.heads):
                values["logits"] = linear("classifier", pooled)
            if "out_proj" in self.heads:
                values["logits"] = linear("out_proj", pooled)
            if set(SENTENCE_PAIR_HEADS) & set(self.heads):
                values["seq_relationship_logits"] = linear("nsp", pooled)
        return h


def depends(later, earlier):
    """Whether a later quantity is computed from an earlier one."""
    if later.endswith(MEMORY) and earlier.startswith("decoder."):
        return False
    if later.startswith("decoder.") and earlier.startswith(("encoder.", "memory")):
        return not later.startswith("decoder.embeddings") and later not in BEFORE_MEMORY
    layer, _, name = earlier.rpartition(".")
    return later not in [f"{layer}.{other}" for other in BESIDE.get(name, ())]


def stage_of(name):
    """The stage of a quantity."""
    half = next((half for half in ("encoder.", "decoder.") if name.startswith(half)), "")
    part = name.removeprefix(half)
    if part.startswith("layer."):
        return half + ".".join(part.split(".")[:2])
    if part.startswith(TABLES):
        return half + TABLES
    return name if name == "memory" else "head"
