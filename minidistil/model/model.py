"""Public model class: converts padded batches to packed rows, checkpoint names to internal ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from minidistil.config import BaseConfig, EncoderDecoderConfig
from minidistil.config.generation_config import GENERATION, GenerationConfig
from minidistil.io.arguments import path_like, real, whole
from minidistil.io.files import write_json
from minidistil.model import network, padded_taps, task_loss, task_outputs
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
from minidistil.model.label_counts import PLAIN, Counting
from minidistil.model.names import is_transposed
from minidistil.model.network import Cotangents, ForwardOptions
from minidistil.model.output import FetchedArrays, Kept, Output, SharedArraysCopy, Step, kept_by
from minidistil.model.parameter_table import layout
from minidistil.model.params import checked_arrays
from minidistil.model.rows import LARGEST_KEY, DropoutState, Rows, given_in, pack, pack_choices
from minidistil.ops import DTYPES, frugal

Batch = Mapping[str, np.ndarray]
MaybeArray = np.ndarray | None


class Model(SharedArraysCopy):
    """A transformer of one of the families with the heads of one task. Make one with
    `from_pretrained` or `from_config`; `params` maps checkpoint names to read-only float32 arrays.

    canonical: {canonical name: array}, see `params.py`. ops: a `minidistil.backend`, whose dtype
    the model computes in. generation: the generation options of the model's folder."""

    generation = GenerationConfig()

    def __init__(self, config: BaseConfig | EncoderDecoderConfig, task: str,
                 canonical: Mapping[str, np.ndarray], ops: Any) -> None:  # fmt: skip
        self.config, self.task, self.ops, self.dtype = config, task, ops, ops.dtype
        self.shapes, self.names = layout(config, task)
        self._canonical_names = {public: c for c, public in self.names.items()}
        self._public_shapes = {public: self.shapes[c] for c, public in self.names.items()}
        self._params, self._canonical = {}, {}
        if "lm" in self.heads:  # GPT-2's LM head has no bias
            zeros = np.zeros(config.vocab_size, DTYPES[self.dtype])
            self._canonical["decoder.bias"] = ops.place.send(zeros)
        self.update({self.names[c]: array for c, array in canonical.items()})

    @property
    def params(self) -> Mapping[str, np.ndarray]:
        return FetchedArrays(self._params, self.ops.place)

    def update(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Replace parameters: {name: array of the same shape}.

        Raises TypeError or ValueError, and changes none, for an unknown name, a wrong shape, values
        that are not real, and values beyond float32.
        """
        for name, array in checked_arrays(arrays, self._public_shapes).items():
            self._params[name] = self.ops.place.freeze(array)
            c = self._canonical_names[name]
            self._canonical[c] = self._transposed(c, self.ops.place.send(self._params[name]))

    def canonical(self) -> dict[str, Any]:
        """The parameters under canonical names, in the computing dtype and in the ops' layout."""
        return self._canonical

    def _transposed(self, c, x):
        """Convert between the checkpoint's layout and the ops' (out,in)."""
        return self.ops.place.transposed(x) if is_transposed(c, self.config) else x

    def named_by_role(self) -> dict[str, np.ndarray]:
        """The float32 parameters under canonical names, in the checkpoint's layout."""
        return {c: self.params[public] for c, public in self.names.items()}

    def like(self, config: BaseConfig, canonical: Mapping[str, np.ndarray], ops: Any) -> Self:
        """A model of the same kind from a config, parameters under canonical names, and ops."""
        model = type(self)(config, self.task, canonical, ops)
        model.generation = self.generation
        return model

    def with_ops(self, ops: Any) -> Self:
        """A model with the same parameters on another backend."""
        return self.like(self.config, self.named_by_role(), ops)

    # ------------------------------------------------------------ forward

    def forward(self, input_ids: np.ndarray, attention_mask: MaybeArray = None,
                token_type_ids: MaybeArray = None, labels: MaybeArray = None, *,
                hidden_states: bool = False, attentions: bool = False, taps: Sequence[str] = (),
                train: bool = False, seed: int = 0, step: int = 0, keep: bool = True,
                first_sequence: int = 0, next_sentence_label: MaybeArray = None,
                sentence_order_label: MaybeArray = None, start_positions: MaybeArray = None,
                end_positions: MaybeArray = None) -> Output:  # fmt: skip
        """A batch of integer arrays (B,T), for multiple-choice (B,choices,T)  ->  Output.

        labels: (B,T) for fill-mask, token-classification and text-generation (where this method
        shifts them), -100 where there is no loss; (B,), the index of the correct choice, for
        multiple-choice; for text-classification see `task_loss`. start_positions, end_positions
        (B,): columns of an answer; a column of T or more has no loss.
        taps: names such as "layer.0.q". train: applies dropout, whose masks are a function of seed,
        step and first_sequence (the number of the batch's first sequence in the global batch).
        keep=False keeps nothing for `backward`. Padding holds zeros in every output, except for
        start_logits and end_logits, where it holds the dtype's minimum.
        Raises ValueError for a batch that does not fit the model.
        """
        rows, a = self.pack(input_ids, attention_mask, token_type_ids), self.config.architecture
        inner = padded_taps.requested(taps, attentions, a)
        dropout_state = self.dropout_state(rows, train, seed, step, first_sequence)

        def run(model):
            return network.forward(
                model.canonical(), rows, self.config, self.task, dropout_state, model.ops,
                ForwardOptions(taps=inner, keep=keep),
            )  # fmt: skip

        result, cache = answer(self, run, lambda done: network.answers(done[0]))
        given = task_loss.given({
            "labels": labels, "next_sentence_label": next_sentence_label,
            "sentence_order_label": sentence_order_label, "start_positions": start_positions,
            "end_positions": end_positions,
        })  # fmt: skip
        loss, gradient = self._loss(result, rows, given) if given else (None, None)
        fetch, place = self._fetch, self.ops.place
        return Output(
            **task_outputs.shown(result.logits, rows, self.logits_head, self.ops.place),
            seq_relationship_logits=fetch(result.nsp),
            last_hidden_state=rows.scatter(fetch(result.hidden[-1])),
            pooler_output=self._pooler_output(result),
            hidden_states=tuple(rows.scatter(fetch(h)) for h in result.hidden)
            if hidden_states
            else None,
            attentions=tuple(
                padded_taps.padded(inner, f"layer.{i}.probs", rows, a, place) for i in range(a.L)
            )
            if attentions
            else None,
            taps={name: padded_taps.padded(inner, name, rows, a, place) for name in taps} or None,
            loss=loss,
            kept=Kept(rows, result, cache, gradient) if keep else None,
        )

    def _pooler_output(self, result):
        """A copy, because backward needs the original; None where the pooler only feeds a head."""
        if self.task != "feature-extraction" or result.pooled is None:
            return None
        return self._fetch(result.pooled).copy()

    def _fetch(self, x):
        return None if x is None else self.ops.place.fetch(x)

    @property
    def heads(self) -> tuple[str, ...]:
        return heads_of(self.config, self.task)

    @property
    def logits_head(self) -> str | None:
        return logits_head(self.config, self.task)

    def pack(self, input_ids: np.ndarray, attention_mask: MaybeArray = None,
             token_type_ids: MaybeArray = None) -> Rows:  # fmt: skip
        """The rows of a batch. Raises ValueError where a pooler reads a masked first column."""
        packed = pack_choices if "choice" in self.heads else pack
        rows = packed(input_ids, attention_mask, token_type_ids, self.config.architecture)
        hidden = np.flatnonzero(~rows.mask[:, 0])
        if len(hidden) and set(POOLERS) & set(self.heads):
            raise ValueError(
                f"the head reads column 0, which attention_mask hides in sequence {hidden[0]}; "
                f"pad on the right"
            )
        return rows

    def infer(self, rows: Rows, select: MaybeArray = None, project: bool = True,
              taps: dict | None = None, checked: bool = True) -> network.Result:  # fmt: skip
        """Rows  ->  network.Result, in evaluation. select, project, taps: see `ForwardOptions`.

        Raises NotFiniteError for an output that is not finite, unless checked=False.
        """

        def run(model):
            return network.forward(
                model.canonical(), rows, self.config, self.task, None, model.ops,
                ForwardOptions(select, taps, project, keep=False),
            )[0]  # fmt: skip

        return answer(self, run, network.answers) if checked else run(self)

    def pack_batch(self, batch: Batch) -> Rows:
        """The rows of a data collator's batch. Without token types the model ignores
        token_type_ids, so that a student can read its teacher's batches."""
        ids = given_in(batch, "input_ids")
        types = batch.get("token_type_ids") if self.config.architecture.types > 1 else None
        return self.pack(ids, batch.get("attention_mask"), types)

    def dropout_state(
        self, rows: Rows, train: bool, seed: int, step: int, first_sequence: int
    ) -> DropoutState | None:
        """The RNG state of these rows' dropout, None in evaluation."""
        if not train:
            return None
        first = whole("first_sequence", first_sequence, 0, LARGEST_KEY)
        key = whole("seed", seed, 0, LARGEST_KEY), whole("step", step, 0, LARGEST_KEY)
        return DropoutState(*key, rows.sequence + first * rows.choices, rows.column)

    def _loss(self, result, rows, given, counting=PLAIN):
        """The loss, a float, and its Cotangents."""
        return task_loss.loss_of(result, rows, given, self, counting)

    # ------------------------------------------------------------ backward

    def backward(self, out: Output, dlogits: MaybeArray = None, *,
                 dlast_hidden_state: MaybeArray = None, dpooler_output: MaybeArray = None,
                 dhidden_states: Sequence[MaybeArray] | None = None, dtaps: Batch | None = None,
                 dseq_relationship_logits: MaybeArray = None, dstart_logits: MaybeArray = None,
                 dend_logits: MaybeArray = None) -> dict[str, np.ndarray]:  # fmt: skip
        """Gradients of the loss, a dict with the keys and shapes of `params`.

        A cotangent has the shape of the output that it belongs to; its values on padding are
        ignored. Without any cotangent, the gradients are those of out.loss. dhidden_states: L+1
        arrays, None where zero. Raises ValueError after keep=False, without a cotangent or a loss,
        and for a wrong shape.
        """
        if kept_by(out) is None:
            raise ValueError("nothing was kept for backward: call forward with keep=True")
        rows, result, cache, gradient = out.kept
        dshown = {"logits": dlogits, "start_logits": dstart_logits, "end_logits": dend_logits}
        given = (dlast_hidden_state, dpooler_output, dhidden_states, dtaps,
                 dseq_relationship_logits, *dshown.values())  # fmt: skip
        if any(x is not None for x in given):
            gradient = Cotangents(
                hidden=self._dhidden(rows, result, dhidden_states, dlast_hidden_state),
                logits=task_outputs.shown_backward(
                    dshown, result.logits, rows, self.logits_head, self.ops.place, self.task
                ),
                pooled=self._cotangent("dpooler_output", dpooler_output, result.pooled),
                nsp=self._cotangent(
                    "dseq_relationship_logits", dseq_relationship_logits, result.nsp
                ),
            )
        elif gradient is None:
            raise ValueError("backward needs a cotangent, such as dlogits, or labels in forward")
        inner = padded_taps.padded_backward(dtaps or {}, rows, self.config.architecture, self.ops)
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

    def public(self, grads: Mapping[str, Any]) -> dict[str, Any]:
        """Gradients under canonical names  ->  one for every parameter, under its name in `params`,
        zeros where the loss does not depend on it."""
        found = self.named(grads)
        return {
            name: found[name] if name in found else self.ops.place.zeros_like(self._params[name])
            for name in self.names.values()
        }

    def named(self, grads: Mapping[str, Any]) -> dict[str, Any]:
        """Some gradients under canonical names  ->  the same under their names in `params`."""
        known = {c: grad for c, grad in grads.items() if c in self.names}
        return {self.names[c]: self._transposed(c, grad) for c, grad in known.items()}

    # ------------------------------------------------------------ one training step, and disk

    def counts(self, batch: Batch, counting: Counting = PLAIN) -> dict[str, float]:
        """The number of labels that each mean of `gradients` is over, {name of the labels: n}."""
        return task_loss.label_counts(batch, self.config, self.logits_head, counting)

    @frugal()
    def gradients(self, batch: Batch, train: bool = False, seed: int = 0, step: int = 0,
                  first_sequence: int = 0, counting: Counting = PLAIN) -> Step:  # fmt: skip
        """The task's loss on a batch with labels, and its gradients  ->  Step. The values are those
        of forward and backward; logits are computed only for rows with a label. counting: see
        `label_counts`."""
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

    def save_pretrained(self, folder: str | Path, dtype: str = "float32") -> None:
        """Write config.json and model.safetensors, which transformers can load.

        dtype of the stored tensors: "float32", "float16", or "int8": matrices with a scale for each
        row, a quarter of the size, which only `from_pretrained` loads. Raises OSError where the
        folder cannot be written; no incomplete file is left.
        """
        path_like("folder", folder)
        config = self.config.to_dict()
        config["architectures"] = [architecture_name(self.config, self.task)]
        write_folder(folder, config, self.params, dtype)
        if options := self.generation.to_dict():
            write_json(Path(folder) / GENERATION, options)
