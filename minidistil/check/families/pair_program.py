"""An encoder–decoder as a list of named quantities.

encoder.embeddings_sum … encoder.layer.i.output       as those of an encoder
memory                                                the projection, where the widths differ
decoder.layer.i.q … attention_norm                    u = LN(x + attention(x)), causal
decoder.layer.i.cross_q … cross_norm                  w = LN(u + attention(q(u), k(m), v(m)))
decoder.layer.i.lin1 … output                         y = LN(w + ffn(w))
transform … logits, loss                              the loss where the batch has labels
"""

from typing import NamedTuple

import numpy as np

from minidistil.check.families.family_ops import FAMILY_OPS
from minidistil.check.families.frames import Frames
from minidistil.check.families.module_call import call_with_roles
from minidistil.check.families.pair_batch import pair_batch
from minidistil.check.layer_run import LayerRun
from minidistil.check.layouts import Frame
from minidistil.check.program import LINEAR, TABLES, Program
from minidistil.check.reference_ops import OBJECTIVES, RIGHT
from minidistil.model.encoder import scope
from minidistil.model.parameter_table import ENC_TO_DEC_PROJ, HALVES
from minidistil.model.seq2seq.seq2seq_model import shift_right

CROSS = ("cross_q", "cross_k", "cross_v", "cross_out")
SITES = {
    "linear": (
        ("q", "k", "v", "out", "lin1", "lin2"), ("q", "k", "v"), CROSS[:3], CROSS[1:3],
        ("q", "k", "v", *CROSS[:3]), ("q", "k", "v", "out", "lin1", "lin2", *CROSS),
        ("lin1", "lin2"), *((site,) for site in (*LINEAR, *CROSS, "memory")),
    ),
    "layernorm": (None, ("attention_norm", "output_norm"),
                  ("attention_norm", "cross_norm", "output_norm"), ("embeddings",),
                  ("attention_norm",), ("cross_norm",), ("output_norm",), ("transform_norm",)),
    "residual": (None, ("attention_sum",), ("cross_sum",), ("output_sum",)),
    "activation": (("activation", "transform_activation"), ("activation",),
                   ("transform_activation",)),
    "scores": (None, ("scores",), ("cross_scores",)),
}  # fmt: skip


class HalfModel(NamedTuple):
    """One half of an encoder–decoder, as `Program` takes a model."""

    config: object
    task: str
    parameters: dict
    names: dict

    def named_by_role(self):
        return self.parameters


class PairState(NamedTuple):
    """What the stages before a stage have computed."""

    encoder: tuple  # its hidden states x₀ … x_L
    memory: np.ndarray | None  # (B,T,C), which the decoder attends to
    x: np.ndarray | None  # (B,U,C), the decoder's hidden states


class CrossProgram(Program):
    """The decoder: `Program` with causal self-attention, and cross attention to the memory.

    masked: whether padding is hidden. A causal mask hides padding on the right from the tokens
    before it, and a module that is given no mask computes other values at the padding.
    """

    right = RIGHT | FAMILY_OPS
    masked = True

    def _cross_layer(self, i, state, source, do, values):
        run, x = LayerRun(self.a, i, self.layers[i], do, values), state.x
        seen = self.mask if self.masked else np.ones_like(self.mask)

        def norm(site, name):
            return lambda z: run.keep(name, run.norm(site, z))

        def attend(z):
            return run.attention((z, z, z), lambda s: do("causal_weights", "weights", s, seen))

        def cross(z):
            m, mask = do("cross_source", "cross_source", z, state.memory, source.mask,
                         encoder=state.encoder, target_mask=self.mask)  # fmt: skip
            return run.attention(
                (z, m, m), lambda s: do("cross_weights", "cross_weights", s, mask), "cross_"
            )

        norms = [
            norm("attention_norm", "attention_norm"), norm("cross_norm", "cross_norm"),
            norm("output_norm", "output"),
        ]  # fmt: skip
        return do("cross_block", "cross_block", x, attend, cross, run.feed, norms, run.residual)


class PairProgram(Program):
    """An encoder–decoder: an encoder's `Program` and a `CrossProgram`."""

    right = RIGHT | FAMILY_OPS
    ops = (
        *(op for op in RIGHT if op not in OBJECTIVES), "causal_weights", "cross_weights",
        "cross_source", "cross_block", "decoder_ids", "token_loss",
    )  # fmt: skip
    sites = SITES
    reads = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids",
             "decoder_attention_mask", "labels")  # fmt: skip
    holes, second = False, "other random tokens"
    example = staticmethod(pair_batch)
    call = staticmethod(call_with_roles)
    word = "decoder.embeddings.word.weight"

    def __init__(self, model, batch, dtype=np.float64):
        self.a, self.config, self.heads = model.config.decoder.architecture, model.config, ("mlm",)
        self.batch = {name: np.asarray(batch[name]) for name in self.reads if name in batch}
        ids = self._decoder_ids(model)
        mask = self.batch.get("decoder_attention_mask", (ids != model.config.pad_token_id) + 0)
        source = {name: self.batch[name] for name in self.reads[:3] if name in self.batch}
        self.inputs = source | {"decoder_input_ids": ids, "decoder_attention_mask": mask}
        self.p = {role: x.astype(dtype) for role, x in model.named_by_role().items()}
        self.encoder = Program(self._half(model, "encoder"), source, dtype)
        target = {"input_ids": ids, "attention_mask": mask}
        self.decoder = CrossProgram(self._half(model, "decoder"), target, dtype)
        self.decoder.masked = "decoder_attention_mask" in self.batch
        self.mask, self.names = self.decoder.mask, self.roles(model)
        T, U = self.encoder.mask.shape[1], self.mask.shape[1]
        if T == U:
            raise ValueError(
                f"sources and targets both have {T} columns; pad one of them, so that shapes tell "
                f"the encoder's arrays from the decoder's"
            )
        self.frame = Frames(self.encoder.frame, Frame(self.mask, self.a.H, self.a.C))
        self.stages = (*(f"encoder.{s}" for s in self.encoder.stages[:-1]), "memory",
                       *(f"decoder.{s}" for s in self.decoder.stages[:-1]), "head")  # fmt: skip
        self.body = "logits"

    def _half(self, model, half):
        names = {n: n for n in scope(model.names, half)}
        return HalfModel(getattr(model.config, half), HALVES[half], scope(self.p, half), names)

    def _decoder_ids(self, model):
        """decoder_input_ids (B,U), by default the labels, shifted to the right."""
        if "decoder_input_ids" in self.batch:
            return self.batch["decoder_input_ids"]
        if "labels" not in self.batch:
            raise ValueError("a target is needed: labels (B,U), or decoder_input_ids (B,U)")
        c = model.config
        return shift_right(self.batch["labels"], c.pad_token_id, c.decoder_start_token_id)

    def _compute(self, number, x, do, values):
        stage, own = self.stages[number], {}
        state = x or PairState((), None, None)
        half, _, part = stage.partition(".")
        if stage == "memory":
            return state._replace(memory=self._memory(state.encoder[-1], do, values))
        if half == "encoder":
            h = (
                self.encoder._embed(do, own)
                if part == TABLES
                else self.encoder._layer(int(part.split(".")[1]), state.encoder[-1], do, own)
            )
            state = state._replace(encoder=(*state.encoder, h))
        elif stage == "head":
            self._words(state.x, do, values)
        elif part == TABLES:
            state = state._replace(x=self._targets(do, own))
        else:
            i = int(part.split(".")[1])
            y = self.decoder._cross_layer(i, state, self.encoder, do, own)
            state = state._replace(x=y)
        values |= {f"{half}.{name}": value for name, value in own.items()}
        return state

    def _memory(self, h, do, values):
        if ENC_TO_DEC_PROJ[0] not in self.p:
            return h
        values["memory"] = m = do("linear", "memory", h, *(self.p[n] for n in ENC_TO_DEC_PROJ))
        return m

    def _targets(self, do, own):
        c = self.config
        ids = do("decoder_ids", "decoder_ids", self.inputs["decoder_input_ids"],
                 self.batch.get("labels"), pad=c.pad_token_id, start=c.decoder_start_token_id,
                 end=c.eos_token_id)  # fmt: skip
        self.decoder.ids = ids.astype(np.int64)
        return self.decoder._embed(do, own)

    def _words(self, h, do, values):
        self.decoder._head(h, do, values)
        if "labels" in self.batch:
            z = values["logits"]
            values["loss"] = np.reshape(do("token_loss", "loss", z, self.batch["labels"]), 1)
