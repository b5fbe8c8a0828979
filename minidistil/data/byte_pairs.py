"""Trains a byte-level BPE tokenizer: bytes, and the pairs of pieces that occur most often.

Source: Sennrich et al., 2016; Radford et al., "GPT-2", 2019, §2.2.
"""

from collections.abc import Iterable

from tokenizers import models, pre_tokenizers, trainers

from minidistil.data.tokenizer import Tokenizer
from minidistil.data.tokenizer_kinds import GPT2, byte_pairs


def train_byte_pairs(documents: Iterable[str], vocab_size: int) -> Tokenizer:
    """GPT-2's kind of tokenizer with at most vocab_size pieces, from an iterable of texts.

    Its one special token, <|endoftext|>, has id 0. The same texts give the same vocabulary. Raises
    ValueError for a vocab_size too small for the 256 bytes.
    """
    (end,) = set(GPT2.values())
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocab_size <= len(letters):
        raise ValueError(
            f"vocab_size {vocab_size} must hold {len(letters)} bytes and {end}; give a larger one"
        )
    backend = byte_pairs(models.BPE(), GPT2, prefix=False, ends=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[end], initial_alphabet=letters, min_frequency=2,
        show_progress=False,
    )  # fmt: skip
    backend.train_from_iterator(documents, trainer)
    return Tokenizer(backend, names=GPT2)
