"""Tiny tokenizers of the kinds that RoBERTa and ALBERT have, trained by `tokenizers` itself."""

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from minidistil.data import Tokenizer
from minidistil.data.tokenizer_kinds import ALBERT, ROBERTA

TEXTS = [
    "The quick brown fox jumps over the lazy dog; the dog sleeps.",
    "A café in Zürich: foxes, dogs and dogged jumping!",
    "Sleeping dogs lie, quick foxes jump. Brown, lazy, quicker, quickest.",
]


def byte_pairs(vocab_size=300, max_length=512):
    """RoBERTa's: bytes, <s> and </s>, a <mask> that takes the space before it along."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    first = [ROBERTA[role] for role in ("cls", "pad", "sep", "unk")]  # with RoBERTa's own ids
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[*first, ROBERTA["mask"]], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    backend.train_from_iterator(TEXTS, trainer)
    backend.add_special_tokens([tokenizers.AddedToken("<mask>", lstrip=True, special=True)])
    backend.post_processor = processors.RobertaProcessing(
        ("</s>", backend.token_to_id("</s>")), ("<s>", 0), add_prefix_space=False
    )
    return Tokenizer(backend, names=ROBERTA, max_length=max_length)


def unigrams(vocab_size=100, max_length=512):
    """ALBERT's: pieces with probabilities, ▁ for the space before a word."""
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.normalizer = normalizers.Sequence([
        normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD(),
        normalizers.StripAccents(), normalizers.Lowercase(),
    ])  # fmt: skip
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    special = [ALBERT[role] for role in ("pad", "unk", "cls", "sep", "mask")]
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    ends = [(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return Tokenizer(backend, names=ALBERT, max_length=max_length, token_types=True)
