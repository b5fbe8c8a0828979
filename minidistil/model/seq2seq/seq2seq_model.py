"""Encoder–decoder models, for translation and summaries: a source text, a target text.

    source  ->  encoder  ->  memory m  (->  enc_to_dec_proj, where the widths differ)
    target, shifted right  ->  decoder that attends to m  ->  logits of the target's tokens

The target "a b ." is learnt from the inputs "[CLS] a b" (teacher forcing): each position predicts
the next token from those before it. Both halves are `encoder.py`; the decoder's blocks are those of
`cross_attention.py`. Source (B,T), target (B,U), M rows of the source, N of the target.
Source: Hugging Face's EncoderDecoderModel, whose names and numbers are matched; Vaswani et al.,
"Attention is all you need", 2017, §3.1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minidistil.model import encoder, heads, network, task_loss
from minidistil.model.context import Context, first_site, plus
from minidistil.model.encoder import Params, scope
from minidistil.model.finite import answer
from minidistil.model.generation.decode_step import Decoder, checked
from minidistil.model.generation.generate_texts import token_sampler
from minidistil.model.generation.generation_options import (
    beam_options,
    eos_of,
    resolved_options,
    search_limits,
)
from minidistil.model.generation.token_search import beam_search, by_text, next_tokens
from minidistil.model.label_counts import PLAIN, Counting
from minidistil.model.model import Model
from minidistil.model.network import ALL_ROWS, Cotangents, ForwardOptions, Result
from minidistil.model.output import Step, kept_by
from minidistil.model.parameter_table import ENC_TO_DEC_PROJ
from minidistil.model.rows import Rows, pack
from minidistil.model.seq2seq.cross_attention import Memory, cross_block, cross_block_backward
from minidistil.ops import frugal


@dataclass(frozen=True)
class PairOutput:
    """What `EncoderDecoder.forward` returns."""

    logits: Any  # (B,U,V)
    encoder_last_hidden_state: Any  # (B,T,C)
    encoder_hidden_states: Any = None  # arrays (B,T,C)
    decoder_hidden_states: Any = None  # arrays (B,U,C)
    loss: Any = None  # float
    kept: Any = None  # for backward


class Pair(NamedTuple):
    """The rows of a batch."""

    source: Any
    target: Any
    labels: Any  # (N,), or None


class Seq2SeqResult(NamedTuple):
    """What a forward computes."""

    hidden: tuple  # of the encoder, each (M,C)
    decoder: Any  # network.Result


def shift_right(labels: np.ndarray, pad: int, start: int) -> np.ndarray:
    """labels (B,U), −100 for none  ->  decoder_input_ids (B,U): `start`, then all labels but the
    last, with `pad` for −100."""
    shifted = np.full_like(labels, start)
    shifted[:, 1:] = labels[:, :-1]
    shifted[shifted == task_loss.IGNORED] = pad
    return shifted


# ---------------------------------------------------------------- rows in, logits out, and back


class Seq2SeqCache(NamedTuple):
    """What a forward keeps for its backward."""

    encoder: tuple
    projection: Any  # None where both halves have the same width
    decoder: tuple
    head: tuple
    last: Any  # (N,C), the decoder's last hidden state


def forward(p: Params, pair: Pair, config: Any, dropout_states: tuple | None, ops: Any,
            options: ForwardOptions = ALL_ROWS):  # fmt: skip
    """Rows of the source and of the target  ->  Seq2SeqResult, cache.

    dropout_states: those of both halves, None in evaluation. options: without taps.
    """
    source_state, target_state = dropout_states or (None, None)
    m, projection, hidden, encoder_cache = encode(
        p, pair.source, config, source_state, ops, options.keep
    )
    p, a, target = scope(p, "decoder"), config.decoder.architecture, pair.target
    memory = Memory(m, pair.source.bounds, target.bounds)
    context = Context(a, target.bounds, ops, target_state, options.keep)
    blocks = [partial(cross_block, memory=memory)] * a.L
    states, decoder_cache = encoder.forward(p, target, config.decoder.pad_token_id, context, blocks)
    features, logits, head = heads.vocabulary_head(
        states[-1], p, "mlm", context, options.select, options.project
    )
    result = Seq2SeqResult(hidden, Result(states, features, logits))
    cache = Seq2SeqCache(encoder_cache, projection, decoder_cache, head, states[-1])
    return result, cache if options.keep else None


def encode(p: Params, source: Rows, config: Any, dropout_state, ops, keep: bool = True):
    """Rows of the source  ->  memory (M,C), the projection's cache, hidden states, cache."""
    c = config.encoder
    context = Context(c.architecture, source.bounds, ops, dropout_state, keep)
    hidden, cache = encoder.forward(scope(p, "encoder"), source, c.pad_token_id, context)
    m, projection = hidden[-1], None
    if ENC_TO_DEC_PROJ[0] in p:
        m, projection = ops.linear.forward(m, *(p[name] for name in ENC_TO_DEC_PROJ))
    return m, projection, hidden, cache


def backward(d: Cotangents, cache: Seq2SeqCache, ops, dlast=None, release: bool = False) -> dict:
    """d: Cotangents of the decoder, dlast (M,C) of the encoder's last hidden state  ->  gradients
    under canonical names, without the encoder's pooler.
    """
    dh, dword, decoder = heads.vocabulary_head_backward(d.logits, d.projection, cache.head, ops)
    dm = None

    def block_backward(dy, cache, ops):
        nonlocal dm
        dx, dm_block, grads = cross_block_backward(dy, cache, ops)
        dm = plus(dm, dm_block, ops)  # every block attends to the memory
        return dx, grads

    blocks = [block_backward] * len(cache.decoder[1].caches)
    dh = plus(d.hidden[-1], dh, ops)
    dh = ops.place.zeros_like(cache.last) if dh is None else dh
    dhidden = (*d.hidden[:-1], dh)  # tied: the table of dword is looked up below, too
    decoder |= encoder.backward(dhidden, cache.decoder, ops, release, blocks, dword)
    grads = {f"decoder.{c}": g for c, g in decoder.items()}
    if cache.projection is not None:
        dm, *dprojection = ops.linear.backward(dm, cache.projection)
        grads |= dict(zip(ENC_TO_DEC_PROJ, dprojection, strict=True))
    dhidden = (*[None] * len(cache.encoder[1].caches), plus(dm, dlast, ops))
    d_encoder = encoder.backward(dhidden, cache.encoder, ops, release)
    return grads | {f"encoder.{c}": g for c, g in d_encoder.items()}


# ---------------------------------------------------------------- the public model


class EncoderDecoder(Model):
    """transformers' EncoderDecoderModel. Make one with `from_pretrained`, `from_config`, or, out of
    one or two pretrained models, with `encoder_decoder_from`."""

    def pack_pair(self, input_ids, attention_mask=None, token_type_ids=None,
                  decoder_input_ids=None, decoder_attention_mask=None, labels=None,
                  empty=False):  # fmt: skip
        """A batch of integer arrays, source (B,T) and target (B,U)  ->  Pair.

        decoder_input_ids: by default the labels, shifted to the right.
        Raises ValueError for a batch that does not fit, or without a target.
        """
        config = self.config
        source = pack(input_ids, attention_mask, token_type_ids, config.encoder.architecture)
        if labels is not None:
            labels = np.asarray(labels)
        if decoder_input_ids is None:
            if labels is None or labels.ndim != 2:
                raise ValueError("a target is needed: labels (B,U), or decoder_input_ids (B,U)")
            pad = config.pad_token_id
            decoder_input_ids = shift_right(labels, pad, config.decoder_start_token_id)
            decoder_attention_mask = (decoder_input_ids != pad).astype(np.int64)
        a = config.decoder.architecture
        target = pack(decoder_input_ids, decoder_attention_mask, None, a)
        if len(target.mask) != len(source.mask):
            raise ValueError(f"{len(source.mask)} sources but {len(target.mask)} targets")
        if labels is not None:
            labels = task_loss.check_token_labels(labels, target, a.V, empty=empty)
        return Pair(source, target, labels)

    def dropout_states(self, pair: Pair, train: bool, seed: int, step: int, first_sequence: int):
        """The DropoutStates of source and target, or None in evaluation."""
        if not train:
            return None
        a = self.config.encoder.architecture
        first, second = (
            self.dropout_state(rows, train, seed, step, first_sequence) for rows in pair[:2]
        )
        return first, second.from_site(first_site(a.L, a))  # behind the encoder's sites

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, labels=None, *,
                decoder_input_ids=None, decoder_attention_mask=None, hidden_states=False,
                train=False, seed=0, step=0, keep=True,
                first_sequence=0) -> PairOutput:  # fmt: skip
        """A batch of integer arrays, source (B,T) and target (B,U)  ->  PairOutput.

        labels: (B,U), −100 where there is no loss; without decoder_input_ids, the target's inputs
        are made of them. The rest is as in `Model.forward`.
        Raises ValueError for a batch that does not fit the model, and for a label behind a −100,
        whose input would be padding.
        """
        pair = self.pack_pair(
            input_ids, attention_mask, token_type_ids, decoder_input_ids, decoder_attention_mask,
            labels,
        )  # fmt: skip
        states = self.dropout_states(pair, train, seed, step, first_sequence)
        options = ForwardOptions(keep=keep)

        def run(model):
            return forward(model.canonical(), pair, self.config, states, model.ops, options)

        result, cache = answer(self, run, lambda done: _numbers(done[0]))
        loss, d = None, None
        if pair.labels is not None:
            loss, dlogits = task_loss.tokens(result.decoder.logits, pair.labels, self.ops)
            loss = self.ops.place.number(loss)
            d = Cotangents((None,) * len(result.decoder.hidden), logits=dlogits)

        def scattered(rows, states):
            return tuple(rows.scatter(self._fetch(h)) for h in states) if hidden_states else None

        return PairOutput(
            logits=pair.target.scatter(self._fetch(result.decoder.logits)),
            encoder_last_hidden_state=pair.source.scatter(self._fetch(result.hidden[-1])),
            encoder_hidden_states=scattered(pair.source, result.hidden),
            decoder_hidden_states=scattered(pair.target, result.decoder.hidden),
            loss=loss,
            kept=(pair, result, cache, d) if keep else None,
        )

    def backward(self, out: PairOutput, dlogits=None, dencoder_last_hidden_state=None) -> dict:
        """Gradients of the loss, a dict with the keys and shapes of `params`.

        The cotangents (B,U,V) and (B,T,C) are of the outputs with their names; without any, the
        gradients are those of out.loss. The gradients of the encoder's pooler, which has no reader,
        are zeros. Raises as `Model.backward`.
        """
        if kept_by(out) is None:
            raise ValueError("nothing was kept for backward: call forward with keep=True")
        pair, result, cache, d = out.kept
        dlast = self._cotangent(
            "dencoder_last_hidden_state", dencoder_last_hidden_state, result.hidden[-1],
            pair.source, pair.source.mask.shape,
        )  # fmt: skip
        if dlogits is not None or dlast is not None:
            logits = result.decoder.logits
            dlogits = self._cotangent(
                "dlogits", dlogits, logits, pair.target, pair.target.mask.shape
            )
            if dlogits is None:
                dlogits = self.ops.place.zeros_like(logits)
            d = Cotangents((None,) * len(result.decoder.hidden), logits=dlogits)
        elif d is None:
            raise ValueError("backward needs a cotangent, such as dlogits, or labels in forward")
        grads = self.public(backward(d, cache, self.ops, dlast))
        return {name: self._fetch(grad) for name, grad in grads.items()}

    @frugal()
    def gradients(self, batch: Mapping, train: bool = False, seed: int = 0, step: int = 0,
                  first_sequence: int = 0, counting: Counting = PLAIN) -> Step:  # fmt: skip
        """The loss on a batch with labels  ->  Step; no array of all logits is made."""
        pair = self.pack_pair(**{name: batch.get(name) for name in BATCH})
        if pair.labels is None:
            raise ValueError("a training step needs labels in the batch")
        select = np.flatnonzero(pair.labels != task_loss.IGNORED)
        result, cache = forward(
            self._canonical, pair, self.config,
            self.dropout_states(pair, train, seed, step, first_sequence), self.ops,
            ForwardOptions(select, project=False),
        )  # fmt: skip
        features, vocabulary = result.decoder.features, self.ops.vocabulary
        loss, kept = vocabulary.forward(
            features,
            *self.lm_head(),
            labels=pair.labels[select],
            alpha_mlm=counting.shares["labels"],
        )
        d = Cotangents(
            (None,) * len(result.decoder.hidden), vocabulary.backward(features.dtype.type(1), kept)
        )
        grads = self.public(backward(d, cache, self.ops, release=True))
        return Step(self.ops.place.number(loss), {}, grads)

    def generate(self, input_ids, attention_mask=None, token_type_ids=None, *, seed: int = 0,
                 **options) -> list[np.ndarray]:  # fmt: skip
        """Sources (B,T)  ->  a list of B arrays of ids, without the start token, with the end token
        of those that end.

        options: num_beams (1: no search), max_new_tokens (the decoder's positions), length_penalty
        (1), early_stopping (False), see `token_search`; repetition_penalty (1),
        no_repeat_ngram_size (0), min_new_tokens (0), see `logit_rules`; temperature (0: the
        argmax), top_k (0), top_p (1) and the seed of sampling, see `generate_texts`. An option that
        is not given has the value of the model's generation_config.json, else that in brackets.
        Raises ValueError for a batch that does not fit, or a number out of range; TypeError for
        other options.
        """
        config = self.config
        positions = config.decoder.architecture.P
        chosen = resolved_options(self, options, 1, positions, bounded=True)
        source = pack(input_ids, attention_mask, token_type_ids, config.encoder.architecture)

        def decoder(model):
            p = model.canonical()
            memory, *_ = encode(p, source, config, None, model.ops, keep=False)
            return Decoder(scope(p, "decoder"), config.decoder, memory, source.bounds, model.ops)

        step = checked(self, decoder)
        start = np.full(len(source.mask), config.decoder_start_token_id)
        logits, limits = step(start, np.arange(len(start))), search_limits(chosen, eos_of(self))
        texts = start[:, None].tolist()
        if chosen["num_beams"] > 1:
            return beam_search(step, logits, texts, limits, beam_options(chosen))
        sampler = token_sampler(len(start), seed, chosen)
        return by_text(next_tokens(step, logits, texts, limits, sampler))

    def loss_of(self, pair: Pair) -> float:
        """The loss of a Pair with labels, in evaluation."""

        options = ForwardOptions(keep=False)

        def run(model):
            return forward(model.canonical(), pair, self.config, None, model.ops, options)

        result, _ = answer(self, run, lambda done: _numbers(done[0]))
        loss, _ = self.ops.cross_entropy.forward(result.decoder.logits, labels=pair.labels)
        return self.ops.place.number(loss)

    def lm_head(self) -> tuple:
        """The projection onto the vocabulary: weight (V,C), bias (V,)."""
        return heads.lm_head(scope(self._canonical, "decoder"))


def _numbers(result):
    """The arrays of a Seq2SeqResult that hold a NaN or infinity if any of its arrays does."""
    return result.hidden[-1], *network.answers(result.decoder)


BATCH = (
    "input_ids", "attention_mask", "token_type_ids", "decoder_input_ids", "decoder_attention_mask",
    "labels",
)  # fmt: skip
