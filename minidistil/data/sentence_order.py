"""Sentence-order prediction (SOP), ALBERT's second objective beside masked words.

    [CLS] w₁ … wₙ [SEP]   ->   [CLS] w₁ … wₐ [SEP] wₐ₊₁ … wₙ [SEP]      label 0: in order
                          or   [CLS] wₐ₊₁ … wₙ [SEP] w₁ … wₐ [SEP]      label 1: swapped

with token types 0 up to the first [SEP] and 1 after it. A text is cut between any two of its tokens
and swapped with probability 1/2. Both draws are, as masks are, a function of (seed, step) and the
sequence's number. ALBERT's own code cuts between sentences; to a text of a single sentence it
appends a random sentence and labels the pair as swapped.
Source: Lan et al., "ALBERT", 2020, §3.1.
"""

from collections.abc import Mapping

import numpy as np

from minidistil.data.batches import MaskedText
from minidistil.data.masking import uniform

SITE = 0x4F524452  # "ORDR": separates these draws from others of the same seed and step


class OrderedText(MaskedText):
    """MaskedText whose texts are two halves, in order or swapped: data for `pretraining`.

    A text becomes one token longer, so that the corpus's max_length is one below the model's
    positions. Raises ValueError for kept_masks, and for a text of fewer than two words when it is
    read.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        if self.kept_masks:
            raise ValueError("a text's order is drawn anew at each step; leave kept_masks out")

    def _read(self, indices, seed, step, first_sequence):
        batch = super()._read(indices, seed, step, first_sequence)
        return in_two_halves(batch, self.pad_id, seed, step, first_sequence)


def in_two_halves(
    batch: Mapping[str, np.ndarray], pad_id: int, seed: int, step: int, first_sequence: int = 0
) -> dict[str, np.ndarray]:
    """input_ids, attention_mask (B,T) of [CLS] … [SEP], padded on the right  ->  the same (B,T+1),
    with token_type_ids (B,T+1) and sentence_order_label (B,)."""
    ids, lengths = batch["input_ids"], batch["attention_mask"].sum(axis=1)
    if lengths.min() < 4:
        raise ValueError(
            f"a text of {lengths.min() - 2} words has no two halves; build the corpus with "
            f"min_tokens of 4 or more"
        )
    where, swap = uniform((len(ids), 2), seed, step, first_sequence, SITE).T  # (B,)
    cuts, swapped = 1 + (where * (lengths - 3)).astype(np.int64), swap < 0.5
    wider = {"input_ids": pad_id, "attention_mask": 0}
    wide = {n: np.pad(batch[n], ((0, 0), (0, 1)), constant_values=x) for n, x in wider.items()}
    types = np.zeros_like(wide["input_ids"])
    for b, (n, cut) in enumerate(zip(lengths, cuts, strict=True)):
        words, end = ids[b, 1 : n - 1], ids[b, n - 1 : n]
        halves = [words[:cut], words[cut:]]
        first, second = halves[::-1] if swapped[b] else halves
        wide["input_ids"][b, 1 : n + 1] = np.concatenate([first, end, second, end])
        wide["attention_mask"][b, n] = 1
        types[b, len(first) + 2 : n + 1] = 1
    return {**wide, "token_type_ids": types, "sentence_order_label": swapped.astype(np.int64)}
