"""The three kinds of tokenizers, built from a vocabulary as the classes of transformers build them.

    BertTokenizer                     WordPiece: words in pieces, the longest first
    RobertaTokenizer, GPT2Tokenizer   byte-level BPE: bytes, and pairs of pieces that are merged
    AlbertTokenizer                   SentencePiece's unigrams

`KINDS` has the special tokens' names of each family.
"""

from collections.abc import Mapping

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
ROBERTA = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
GPT2 = dict.fromkeys(SPECIAL, "<|endoftext|>")
ALBERT = {**SPECIAL, "pad": "<pad>", "unk": "<unk>"}
KINDS = (SPECIAL, ROBERTA, ALBERT, GPT2)
PREFIX = "##"  # of a WordPiece that continues a word


def wordpiece(
    vocabulary: dict[str, int], names: Mapping[str, str], *, lowercase: bool,
    strip_accents: bool | None = None, chinese: bool = True,
) -> tokenizers.Tokenizer:  # fmt: skip
    """BERT's tokenizer over a vocabulary {piece: id}.

    strip_accents: by default the same as lowercase; chinese: whether each Chinese character is a
    word.
    """
    model = models.WordPiece(vocabulary, unk_token=names["unk"], continuing_subword_prefix=PREFIX)
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=strip_accents, handle_chinese_chars=chinese
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix=PREFIX)
    backend.add_special_tokens([n for n in names.values() if n in vocabulary])
    bert_ends(backend, names)
    return backend


def byte_pairs(
    model: models.BPE, names: Mapping[str, str], prefix: bool, ends: bool = True
) -> tokenizers.Tokenizer:
    """RoBERTa's tokenizer over a BPE model; without ends GPT-2's, which adds no token to a text.

    prefix: whether a space is put before a text's first word.
    """
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    backend.decoder = decoders.ByteLevel()
    there = {r: name for r, name in names.items() if name and backend.token_to_id(name) is not None}
    backend.add_special_tokens([
        # lstrip: the space before a mask belongs to the masked word
        AddedToken(name, lstrip=role == "mask", special=True)
        for role, name in {name: (role, name) for role, name in there.items()}.values()
    ])  # fmt: skip
    if ends:
        roberta_ends(backend, names, prefix)
    return backend


def unigrams(
    model: models.Unigram, lowercase: bool, keep_accents: bool, prefix: bool
) -> tokenizers.Tokenizer:
    """ALBERT's tokenizer over a Unigram model that holds [CLS] and [SEP]."""
    backend = tokenizers.Tokenizer(model)
    steps = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not keep_accents:
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if lowercase:
        steps.append(normalizers.Lowercase())
    backend.normalizer = normalizers.Sequence(steps)
    scheme = "always" if prefix else "never"
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme=scheme)]
    )
    backend.decoder = decoders.Metaspace(prepend_scheme=scheme)
    bert_ends(backend, ALBERT)
    return backend


def bert_ends(backend: tokenizers.Tokenizer, names: Mapping[str, str]) -> None:
    """Add the special tokens [CLS] a [SEP], or [CLS] a [SEP] b [SEP] with type 1 for b and the last
    [SEP], if both are pieces of the vocabulary."""
    cls, sep = names["cls"], names["sep"]
    ends = [(name, backend.token_to_id(name)) for name in dict.fromkeys((cls, sep))]
    if all(number is not None for _, number in ends):
        backend.post_processor = processors.TemplateProcessing(
            single=f"{cls} $A {sep}", pair=f"{cls} $A {sep} $B:1 {sep}:1", special_tokens=ends
        )


def roberta_ends(backend: tokenizers.Tokenizer, names: Mapping[str, str], prefix: bool) -> None:
    """Add the special tokens <s> a </s>, or <s> a </s></s> b </s>, if both are pieces of the
    vocabulary."""
    ends = [(names[role], backend.token_to_id(names[role])) for role in ("sep", "cls")]
    if all(number is not None for _, number in ends):
        backend.post_processor = processors.RobertaProcessing(*ends, add_prefix_space=prefix)
