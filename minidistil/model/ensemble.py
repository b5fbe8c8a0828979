"""Several models as one: the weighted mean of their logits.

    z = Σ_m w_m·z_m          Σ_m w_m = 1

The mean is of logits, not of probabilities: a model that is sure weighs more than one that is not,
and softening by τ commutes with it. Source: TextBrewer's multi-teacher distiller, w_m = 1/M.
"""

import math

from minidistil.config.vit import VISION
from minidistil.model import network
from minidistil.model.heads import ENCODER_DECODER

ALONE = {  # tasks whose answers are no logits to take the mean of, and why there is no other mean
    **dict.fromkeys(
        ("feature-extraction", "sentence-embedding"),
        "vectors of several models live in different spaces",
    ),
    **dict.fromkeys(ENCODER_DECODER.heads, "several models do not write one text together"),
}


class Ensemble:
    """Models of one task whose logits mean the same; they may differ in family and size.

    weights: one for each, above 0, which are divided by their sum; equal when None. It is asked as
    a Model is, by `pack` and `infer`, and `params` holds all of theirs.
    Raises ValueError for models that share no task, vocabulary, classes or rule for positions, or
    that give vectors or write texts.
    """

    without_hidden = "several teachers share no hidden state; set alpha_cos to 0"

    def __init__(self, members, weights=None):
        self.members = tuple(members)
        weights = [1.0] * len(self.members) if weights is None else list(weights)
        if not self.members or len(weights) != len(self.members):
            raise ValueError(
                f"an ensemble needs a weight for each model: {len(weights)} for "
                f"{len(self.members)} models"
            )
        if not all(0 < w < math.inf for w in weights):
            raise ValueError(f"the weights must be finite numbers above 0, not {weights}")
        if (task := self.members[0].task) in ALONE:
            raise ValueError(f"{ALONE[task]}: give one folder for {task}")
        self.weights = tuple(w / sum(weights) for w in weights)
        for what, of in SHARED.items():
            found = [of(m) for m in self.members]
            if len(set(found)) > 1:
                raise ValueError(f"the models of an ensemble must share {what}, not {found}")
        # The rows that `pack` makes hold token types where one of the models reads them.
        self.lead = max(self.members, key=lambda m: m.config.architecture.types)
        self.task, self.config, self.ops = self.lead.task, self.lead.config, self.lead.ops

    @property
    def params(self):
        return {f"{i}.{n}": p for i, m in enumerate(self.members) for n, p in m.params.items()}

    def pack(self, input_ids, attention_mask=None, token_type_ids=None):
        """The batch's rows, once every member can read them."""
        for model in self.members:
            types = token_type_ids if model.config.architecture.types > 1 else None
            rows = model.pack(input_ids, attention_mask, types)
            if model is self.lead:
                kept = rows
        return kept

    def pack_batch(self, batch):
        """The rows of a collator's batch, or the patches of its images."""
        if "pixel_values" in batch:
            return self.lead.pack_batch(batch)
        return self.pack(*(batch.get(k) for k in ("input_ids", "attention_mask", "token_type_ids")))

    def infer(self, rows, select=None):
        """Rows  ->  network.Result with logits alone, in evaluation."""
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


def mean(logits, weights, ops):
    """Σ_m w_m·z_m of arrays of one shape, a fresh array."""
    total = None
    for z, weight in zip(logits, weights, strict=True):
        part = ops.place.scaled(z, weight)
        if total is None:
            total = part
        else:
            ops.place.accumulate(total, part)
    return total
