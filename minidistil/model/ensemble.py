"""Several models as one: the weighted mean of their logits.

    z = Σ_m w_m·z_m          Σ_m w_m = 1

The mean is over logits, not probabilities: a model with large logits has more influence, and the
temperature commutes with the mean. Source: TextBrewer's multi-teacher distiller, w_m = 1/M.
"""

import math
from collections.abc import Iterable, Mapping

from minidistil.config.vit import VISION
from minidistil.io.counts import counted
from minidistil.model import network
from minidistil.model.heads import ENCODER_DECODER
from minidistil.model.rows import Rows

NO_MEAN = {  # tasks without a mean of several models' outputs, and the reason
    **dict.fromkeys(
        ("feature-extraction", "sentence-embedding"),
        "vectors of several models live in different spaces",
    ),
    **dict.fromkeys(ENCODER_DECODER.heads, "several models do not write one text together"),
}


class Ensemble:
    """Models of one task with the same classes or vocabulary; families and sizes may differ.

    weights: one for each model, above 0, normalised to sum 1; equal when None. `pack`, `infer` and
    `params` are as those of a Model.
    Raises ValueError for models that differ in task, vocabulary, classes or positions, and for
    tasks whose outputs have no mean.
    """

    without_hidden = "several teachers share no hidden state; set alpha_cos to 0"

    def __init__(self, members, weights=None):
        self.members = tuple(members)
        weights = [1.0] * len(self.members) if weights is None else list(weights)
        if not self.members or len(weights) != len(self.members):
            raise ValueError(
                f"an ensemble needs a weight for each model: {len(weights)} for "
                f"{counted(len(self.members), 'model')}"
            )
        if not all(0 < w < math.inf for w in weights):
            raise ValueError(f"the weights must be finite numbers above 0, not {weights}")
        if (task := self.members[0].task) in NO_MEAN:
            raise ValueError(f"{NO_MEAN[task]}: give one folder for {task}")
        self.weights = tuple(w / sum(weights) for w in weights)
        for what, of in SHARED.items():
            found = [of(m) for m in self.members]
            if len(set(found)) > 1:
                raise ValueError(f"the models of an ensemble must share {what}, not {found}")
        # `pack` returns the rows of a model with token types, if there is one.
        self.lead = max(self.members, key=lambda m: m.config.architecture.types)
        self.task, self.config, self.ops = self.lead.task, self.lead.config, self.lead.ops

    @property
    def params(self):
        return {f"{i}.{n}": p for i, m in enumerate(self.members) for n, p in m.params.items()}

    def pack(self, input_ids, attention_mask=None, token_type_ids=None) -> Rows:
        """The batch's rows. Raises ValueError where they do not fit one of the models."""
        for model in self.members:
            types = token_type_ids if model.config.architecture.types > 1 else None
            rows = model.pack(input_ids, attention_mask, types)
            if model is self.lead:
                kept = rows
        return kept

    def pack_batch(self, batch: Mapping):
        """The rows of a data collator's batch, or the patches of its images."""
        if "pixel_values" in batch:
            return self.lead.pack_batch(batch)
        return self.pack(*(batch.get(k) for k in ("input_ids", "attention_mask", "token_type_ids")))

    def infer(self, rows, select=None) -> network.Result:
        """Rows  ->  network.Result with logits only, in evaluation."""
        logits = mean([model.infer(rows, select).logits for model in self.members],
                      self.weights, self.ops)  # fmt: skip
        return network.Result((), logits=logits)


SHARED = {
    "the task": lambda m: m.task,
    "vocab_size": lambda m: getattr(m.config, "vocab_size", None),
    "the patches": lambda m: (m.config.model_type, m.config.patch_size)
    if m.config.model_type in VISION else None,
    "num_labels": lambda m: m.config.num_labels,
    "the names of the classes": lambda m: m.config.id2label,
    "the backend": lambda m: m.ops.name,
    "the rule for positions": lambda m: m.config.architecture.padding_position,
}  # fmt: skip


def mean(logits: Iterable, weights: Iterable[float], ops):
    """Σ_m w_m·z_m of arrays of one shape, a fresh array."""
    total = None
    for z, weight in zip(logits, weights, strict=True):
        part = ops.place.scaled(z, weight)
        if total is None:
            total = part
        else:
            ops.place.accumulate(total, part)
    return total
