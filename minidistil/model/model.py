"""Public model class: converts padded batches to packed rows, checkpoint names to internal ones."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from minidistil.config.generation_config import NAME as GENERATION
from minidistil.config.generation_config import Generation
from minidistil.io.arguments import path_like, real, whole
from minidistil.io.files import write_json
from minidistil.model import network, taps, task_loss, task_outputs
from minidistil.model.checkpoint import write_folder
from minidistil.model.context import plus
from minidistil.model.finite import answer
from minidistil.model.heads import (
    POOLERS,
    WORD_TASKS,
    architecture_name,
    heads_of,
    lm_head,
    logits_head,
)
from minidistil.model.label_counts import PLAIN
from minidistil.model.names import is_turned
from minidistil.model.network import Cotangents, ForwardOptions
from minidistil.model.output import Copied, Fetched, Kept, Output, Step, kept_by
from minidistil.model.parameter_table import layout
from minidistil.model.params import checked_arrays
from minidistil.model.rows import LARGEST_KEY, DropoutState, given_in, pack, pack_choices
from minidistil.ops import DTYPES, frugal


class Model(Copied):
    """A transformer of one of the families with the heads of one task. Make one with
    `from_pretrained` or `from_config`; `params` maps checkpoint names to read-only float32 arrays.

    ops: a `minidistil.backend`; its dtype is what the model computes in. generation: how it writes,
    as its folder says."""

    generation = Generation()

    def __init__(self, config, task, canonical, ops):
        self.config, self.task, self.ops, self.dtype = config, task, ops, ops.dtype
        self.shapes, self.names = layout(config, task)
        self._params, self._canonical = {}, {}
        if "lm" in self.heads:  # which has no bias
            nothing = np.zeros(config.vocab_size, DTYPES[self.dtype])
            self._canonical["decoder.bias"] = ops.place.send(nothing)
        self.update({self.names[c]: array for c, array in canonical.items()})

    @property
    def params(self) -> Mapping[str, np.ndarray]:
        return Fetched(self._params, self.ops.place)

    def update(self, arrays):
        """Replace parameters: {name: array of the same shape}.

        Raises TypeError or ValueError, changing none: for another name or shape, for objects and
        complex numbers, and for numbers beyond float32.
        """
        canonical = {public: c for c, public in self.names.items()}
        wanted = {public: self.shapes[c] for public, c in canonical.items()}
        for name, array in checked_arrays(arrays, wanted).items():
            self._params[name] = self.ops.place.freeze(array)
            c = canonical[name]
            self._canonical[c] = self._turned(c, self.ops.place.send(self._params[name]))

    def canonical(self):
        """The parameters by role, in the dtype and the layout that compute."""
        return self._canonical

    def _turned(self, c, x):
        """From the checkpoint's layout to the one that computes, and back."""
        return self.ops.place.turned(x) if is_turned(c, self.config) else x

    def named_by_role(self):
        """The parameters, float32, under canonical names."""
        return {c: self.params[public] for c, public in self.names.items()}

    def with_ops(self, ops):
        """The same parameters behind another backend."""
        model = type(self)(self.config, self.task, self.named_by_role(), ops)
        model.generation = self.generation
        return model

    # ------------------------------------------------------------ forward

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, labels=None,
                hidden_states=False, attentions=False, taps=(), train=False, seed=0, step=0,
                keep=True, first_sequence=0, next_sentence_label=None, sentence_order_label=None,
                start_positions=None, end_positions=None):  # fmt: skip
        """A batch of integer arrays (B,T), for multiple-choice (B,choices,T)  ->  Output.

        labels: (B,T) for fill-mask, token-classification and text-generation (input_ids as they
        are: the shift is made here), -100 where there is no loss; (B,) the right choice; see
        `objective` for text-classification. start_positions, end_positions (B,): columns of an
        answer; from T on they have no loss.
        taps: names such as "layer.0.q". train: dropout on, its masks a function of seed, step and
        first_sequence (the number of the batch's first sequence in the global batch).
        keep=False keeps nothing for `backward`. Padding holds zeros in every output, but in
        start_logits and end_logits the dtype's minimum.
        Raises ValueError for a batch that does not fit the model.
        """
        rows = self.pack(input_ids, attention_mask, token_type_ids)
        inner = self._inner(taps, attentions)
        dropout_state = self.dropout_state(rows, train, seed, step, first_sequence)

        def run(model):
            return network.forward(
                model.canonical(), rows, self.config, self.task, dropout_state, model.ops,
                ForwardOptions(taps=inner, keep=keep),
            )  # fmt: skip

        result, cache = answer(self, run, lambda done: network.answers(done[0]))
        loss, gradient = None, None
        given = (labels, next_sentence_label, sentence_order_label, start_positions, end_positions)
        if given := task_loss.given(dict(zip(task_loss.LABELS, given, strict=True))):
            loss, gradient = self._loss(result, rows, given)
        fetch = self._fetch
        return Output(
            **task_outputs.shown(result.logits, rows, self.logits_head, self.ops.place),
            seq_relationship_logits=fetch(result.nsp),
            last_hidden_state=rows.scatter(fetch(result.hidden[-1])),
            pooler_output=self._pooler_output(result),
            hidden_states=tuple(rows.scatter(fetch(h)) for h in result.hidden)
            if hidden_states
            else None,
            attentions=self._attentions(inner, rows) if attentions else None,
            taps={name: self._tap(inner, rows, name) for name in taps} if taps else None,
            loss=loss,
            kept=Kept(rows, result, cache, gradient) if keep else None,
        )

    def _pooler_output(self, result):
        """A copy, as backward needs the original; None where the pooler only feeds a head."""
        if self.task != "feature-extraction" or result.pooled is None:
            return None
        return self._fetch(result.pooled).copy()

    def _fetch(self, x):
        return None if x is None else self.ops.place.fetch(x)

    @property
    def heads(self):
        return heads_of(self.config, self.task)

    @property
    def logits_head(self):
        return logits_head(self.config, self.task)

    def pack(self, input_ids, attention_mask=None, token_type_ids=None):
        """The batch's rows; refuses one whose first column the head needs and the mask hides."""
        packed = pack_choices if "choice" in self.heads else pack
        rows = packed(input_ids, attention_mask, token_type_ids, self.config.architecture)
        hidden = np.flatnonzero(~rows.mask[:, 0])
        if len(hidden) and set(POOLERS) & set(self.heads):
            raise ValueError(
                f"the head reads column 0, which attention_mask hides in sequence {hidden[0]}; "
                f"pad on the right"
            )
        return rows

    def infer(self, rows, select=None, project=True, taps=None, checked=True):
        """Rows  ->  network.Result, in evaluation; the rest: see `network.forward`.

        Raises NotFiniteError where an answer is not finite, unless the caller looks for that
        (checked=False).
        """

        def run(model):
            return network.forward(
                model.canonical(), rows, self.config, self.task, None, model.ops,
                ForwardOptions(select, taps, project, keep=False),
            )[0]  # fmt: skip

        return answer(self, run, network.answers) if checked else run(self)

    def pack_batch(self, batch):
        """The rows of a collator's batch; token types are left to the models that tell them
        apart, as a student reads its teacher's batches."""
        ids = given_in(batch, "input_ids")
        types = batch.get("token_type_ids") if self.config.architecture.types > 1 else None
        return self.pack(ids, batch.get("attention_mask"), types)

    def dropout_state(self, rows, train, seed, step, first_sequence):
        """Dropout's randomness for these rows, or None in evaluation."""
        if not train:
            return None
        first = whole("first_sequence", first_sequence, 0, LARGEST_KEY)
        key = whole("seed", seed, 0, LARGEST_KEY), whole("step", step, 0, LARGEST_KEY)
        return DropoutState(*key, rows.sequence + first * rows.choices, rows.column)

    def _loss(self, result, rows, given, counting=PLAIN):
        """float, Cotangents for every row's logits."""
        return task_loss.loss_of(result, rows, given, self.config, self.task, self.ops, counting)

    def _inner(self, names, attentions):
        taps.check_names(names, self.config.architecture.L)
        layers = {name.rpartition(".")[0] for name in names}
        if attentions:
            layers = {f"layer.{i}" for i in range(self.config.architecture.L)}
        return {layer: {} for layer in layers} or None

    def _tap(self, inner, rows, name):
        layer, _, part = name.rpartition(".")
        if part not in taps.SQUARE:
            return rows.scatter(self._fetch(inner[layer][part]))
        q, k = (self._fetch(inner[layer][name]) for name in "qk")
        H = self.config.architecture.H
        causal = self.config.architecture.causal
        return taps.scatter_squares(taps.squares(q, k, rows.bounds, H, part, causal), rows.mask)

    def _attentions(self, inner, rows):
        layers = range(self.config.architecture.L)
        return tuple(self._tap(inner, rows, f"layer.{i}.probs") for i in layers)

    # ------------------------------------------------------------ backward

    def backward(self, out, dlogits=None, dlast_hidden_state=None, dpooler_output=None,
                 dhidden_states=None, dtaps=None, dseq_relationship_logits=None,
                 dstart_logits=None, dend_logits=None):  # fmt: skip
        """Gradients of the loss, a dict with the keys and shapes of `params`.

        The cotangents have the shapes of what `out` holds; what lies on padding is ignored. Without
        any, they are those of out.loss. dhidden_states: a sequence of L+1, None where zero.
        Raises ValueError after keep=False, without a cotangent or a loss, or for a wrong shape.
        """
        if kept_by(out) is None:
            raise ValueError("nothing was kept for backward: call forward with keep=True")
        rows, result, cache, gradient = out.kept
        shown = {"logits": dlogits, "start_logits": dstart_logits, "end_logits": dend_logits}
        given = (dlast_hidden_state, dpooler_output, dhidden_states, dtaps,
                 dseq_relationship_logits, *shown.values())  # fmt: skip
        if any(x is not None for x in given):
            gradient = Cotangents(
                hidden=self._dhidden(rows, result, dhidden_states, dlast_hidden_state),
                logits=task_outputs.shown_backward(
                    shown, result.logits, rows, self.logits_head, self.ops.place, self.task
                ),
                pooled=self._cotangent("dpooler_output", dpooler_output, result.pooled),
                nsp=self._cotangent(
                    "dseq_relationship_logits", dseq_relationship_logits, result.nsp
                ),
            )
        elif gradient is None:
            raise ValueError("backward needs a cotangent, such as dlogits, or labels in forward")
        inner = self._dtaps(rows, dtaps or {})
        grads = self.public(network.backward(gradient, cache, self.ops, inner))
        return {name: self._fetch(grad) for name, grad in grads.items()}

    def _cotangent(self, name, dy, like, rows=None, batch=None):
        if dy is None:
            return None
        if like is None:
            raise ValueError(f"{name}: task {self.task!r} has no such output")
        shape = like.shape if batch is None else (*batch, *like.shape[1:])
        if np.shape(dy) != shape:
            raise ValueError(f"{name} must be {shape}, not {np.shape(dy)}")
        dy = real(name, dy).astype(DTYPES[self.dtype])
        return self.ops.place.send(dy if batch is None else rows.gather(dy))

    def _dhidden(self, rows, result, dhidden_states, dlast_hidden_state):
        d = list(dhidden_states) if dhidden_states is not None else [None] * len(result.hidden)
        if len(d) != len(result.hidden):
            raise ValueError(f"dhidden_states needs {len(result.hidden)} entries, not {len(d)}")
        d = [
            self._cotangent("dhidden_states", x, h, rows, rows.mask.shape)
            for x, h in zip(d, result.hidden, strict=True)
        ]
        last = self._cotangent(
            "dlast_hidden_state", dlast_hidden_state, result.hidden[-1], rows, rows.mask.shape
        )
        d[-1] = plus(d[-1], last, self.ops)
        return tuple(d)

    def _dtaps(self, rows, dtaps):
        """{"layer.0.q": (B,T,C), …}  ->  {"layer.0": {"q": (N,C)}, …}."""
        a, inner = self.config.architecture, {}
        taps.check_names(dtaps, a.L)
        (B, T) = rows.mask.shape
        for name, dy in dtaps.items():
            layer, _, part = name.rpartition(".")
            square = part in taps.SQUARE
            shape = (B, a.H, T, T) if square else (B, T, a.F if part in taps.WIDE else a.C)
            if np.shape(dy) != shape:
                raise ValueError(f"dtaps[{name!r}] must be {shape}, not {np.shape(dy)}")
            dy = real(f"dtaps[{name!r}]", dy).astype(DTYPES[self.dtype])
            inner.setdefault(layer, {})[part] = (
                taps.gather_squares(dy, rows.mask) if square
                else self.ops.place.send(rows.gather(dy))
            )  # fmt: skip
        return inner

    def public(self, grads):
        """Canonical gradients  ->  every parameter's, under its name in `params`."""
        return {
            public: self._turned(c, grads[c])
            if c in grads
            else self.ops.place.zeros_like(self._params[public])
            for c, public in self.names.items()
        }

    # ------------------------------------------------------------ one training step, and disk

    def counts(self, batch, counting=PLAIN):
        """What the means of `gradients` are over, {name of the labels: n}."""
        return task_loss.label_counts(batch, self.config, self.logits_head, counting)

    @frugal()
    def gradients(self, batch, train=False, seed=0, step=0, first_sequence=0, counting=PLAIN):
        """The task's own loss on a batch with labels  ->  Step, as forward and backward give it,
        but without logits of rows that have no label. counting: see `model.counting`."""
        rows = self.pack_batch(batch)
        dropout_state = self.dropout_state(rows, train, seed, step, first_sequence)
        given = task_loss.given(batch)
        if not given:
            raise ValueError("a training step needs labels in the batch")
        args = (self._canonical, rows, self.config, self.task, dropout_state, self.ops)
        if self.task in WORD_TASKS:
            (labels,) = task_loss.right_answers(given, rows, self.config, self.logits_head)
            select = np.flatnonzero(labels != task_loss.IGNORED)  # (M,)
            result, cache = network.forward(*args, ForwardOptions(select, project=False))
            loss, kept = self.ops.vocabulary.forward(
                result.features, *lm_head(self._canonical), labels=labels[select],
                alpha_mlm=counting.shares["labels"],
            )  # fmt: skip
            projection = self.ops.vocabulary.backward(result.features.dtype.type(1), kept)
            d = Cotangents((None,) * len(result.hidden), projection)
        else:
            result, cache = network.forward(*args)
            loss, d = self._loss(result, rows, given, counting)
        grads = self.public(network.backward(d, cache, self.ops, release=True))
        return Step(self.ops.place.number(loss), {}, grads)

    def save_pretrained(self, folder, dtype="float32"):
        """Write config.json and model.safetensors, which transformers loads as they are.

        dtype: "float32" or "float16", how the tensors are stored; or "int8", matrices with a scale
        for each row, a quarter of the size, which `from_pretrained` alone loads. Raises OSError
        where the folder cannot be written, leaving no half-written file.
        """
        path_like("folder", folder)
        config = self.config.to_dict()
        config["architectures"] = [architecture_name(self.config, self.task)]
        write_folder(folder, config, self.params, dtype)
        if said := self.generation.to_dict():
            write_json(Path(folder) / GENERATION, said)
