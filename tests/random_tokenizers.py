"""Tokenizers of every kind at random: normalisers, words, ends, special and added tokens."""

import json

import tokenizers
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from toy_tokenizers import TEXTS, byte_pairs, unigrams

from minidistil.data import Tokenizer, train_wordpiece
from minidistil.data.tokenizer_kinds import ALBERT, GPT2, ROBERTA, SPECIAL

WORDS = [
    "fox",
    "Fox",
    "café",
    "CAFÉ",
    "dog.",
    "[MASK]",
    "<mask>",
    "<new>",
    "[X]",
    "<s>",
    "狐",
    "ﬁ",
    "İ",
]
texts = st.lists(
    st.sampled_from(WORDS) | st.text(max_size=6), min_size=1, max_size=6
).map(" ".join).filter(str.strip)  # fmt: skip


def mostly(usual, *others):
    """A value, and now and then another: what a class of transformers builds is rarely left."""
    return st.sampled_from([usual] * 4 + list(others))


def state_of(tokenizer):
    """What a toy was trained to: its vocabulary and merges."""
    return json.loads(tokenizer.backend.to_str())["model"]


PIECES = state_of(train_wordpiece(TEXTS, 150, lowercase=False, min_frequency=1))["vocab"]
PAIRS = state_of(byte_pairs(290))
SCORES = state_of(unigrams())["vocab"]


@st.composite
def wordpieces(draw):
    names = {role: draw(mostly(name, f"<{role}>")) for role, name in SPECIAL.items()}
    vocabulary = {names.get(old.strip("[]").lower(), old) if old in SPECIAL.values() else old: i
                  for old, i in PIECES.items()}  # fmt: skip
    if draw(st.booleans()):
        del vocabulary[names["mask"]]
        vocabulary = {piece: i for i, piece in enumerate(vocabulary)}
    model = models.WordPiece(
        vocabulary, unk_token=names["unk"], continuing_subword_prefix="##",
        max_input_chars_per_word=draw(mostly(100, 3)),
    )  # fmt: skip
    backend = tokenizers.Tokenizer(model)
    bools = st.booleans()
    bert = st.builds(
        normalizers.BertNormalizer, clean_text=mostly(True, False), lowercase=bools,
        handle_chinese_chars=bools, strip_accents=st.sampled_from([None, True, False]),
    )  # fmt: skip
    others = st.sampled_from([
        None, normalizers.NFKC(), normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()])
    ])  # fmt: skip
    normalizer = draw(st.one_of(bert, bert, bert, bert, others))
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.pre_tokenizer = draw(mostly(
        pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Whitespace()
    ))  # fmt: skip
    backend.decoder = decoders.WordPiece(prefix="##")
    backend.post_processor = draw(ends(vocabulary, names["cls"], names["sep"]))
    return finished(draw, backend, names)


@st.composite
def bytes_and_pairs(draw):
    names = draw(st.sampled_from([ROBERTA, GPT2, {**GPT2, "pad": "[PAD]"}, {**GPT2, "cls": "<s>"}]))
    spare = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    own = list(dict.fromkeys(names.values()))
    if names is ROBERTA and draw(st.booleans()):
        own.remove(draw(st.sampled_from(["<unk>", "<mask>"])))
    pieces = [*own, *(p for p in PAIRS["vocab"] if p not in spare)]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    model = models.BPE(vocabulary, [tuple(pair) for pair in PAIRS["merges"]])
    backend = tokenizers.Tokenizer(model)
    prefix, regex = draw(st.booleans()), draw(mostly(True, False))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)
    if draw(mostly(False, True)):
        backend.normalizer = normalizers.NFC()
    backend.decoder = decoders.ByteLevel()
    cls, sep = names["cls"], names["sep"]
    roberta = processors.RobertaProcessing(
        (sep, vocabulary[sep]), (cls, vocabulary[cls]),
        trim_offsets=draw(mostly(True, False)), add_prefix_space=prefix,
    )  # fmt: skip
    none = st.sampled_from([None, processors.ByteLevel(trim_offsets=False)])
    chosen = draw(st.one_of(st.just(roberta), none, ends(vocabulary, cls, sep)))
    if chosen is not None:
        backend.post_processor = chosen
    return finished(draw, backend, names)


@st.composite
def sentencepieces(draw):
    unknown = draw(mostly(1, 0))
    pieces = [tuple(piece) for piece in SCORES]
    names = dict(ALBERT)
    if unknown == 0:
        pieces[0], pieces[1] = pieces[1], pieces[0]
    backend = tokenizers.Tokenizer(models.Unigram(pieces, unknown))
    steps = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if draw(st.booleans()):
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if draw(st.booleans()):
        steps.append(normalizers.Lowercase())
    if draw(mostly(False, True)):
        steps.append(normalizers.Replace("o", "a"))
    backend.normalizer = normalizers.Sequence(steps)
    scheme = draw(mostly("always", "never", "first"))
    split = [pre_tokenizers.WhitespaceSplit()] if draw(mostly(True, False)) else []
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [*split, pre_tokenizers.Metaspace(prepend_scheme=scheme)]
    )
    backend.decoder = decoders.Metaspace(prepend_scheme=scheme)
    vocabulary = {piece: i for i, (piece, _) in enumerate(pieces)}
    backend.post_processor = draw(ends(vocabulary, names["cls"], names["sep"]))
    return finished(draw, backend, names)


def ends(vocabulary, cls, sep):
    """Post-processors: BERT's as a template and as its own class, and others."""
    ids = [(name, vocabulary[name]) for name in dict.fromkeys((cls, sep))]
    bert = processors.TemplateProcessing(
        single=f"{cls} $A {sep}", pair=f"{cls} $A {sep} $B:1 {sep}:1", special_tokens=ids
    )
    other = processors.TemplateProcessing(
        single=f"{cls} $A", pair=f"{cls} $A {sep} $B", special_tokens=ids
    )
    own = processors.BertProcessing((sep, vocabulary[sep]), (cls, vocabulary[cls]))
    return mostly(bert, other, own)


def finished(draw, backend, names):
    """With further pieces, which are found in a text as their flags say."""
    flags = {name: st.booleans() for name in ("lstrip", "rstrip", "single_word", "special")}
    further = st.builds(AddedToken, st.sampled_from(["<new>", "[X]", "fox"]), **flags)
    backend.add_tokens(draw(st.lists(further, max_size=2)))
    return Tokenizer(backend, names=names, max_length=draw(st.sampled_from([16, 64])))


every = st.one_of(wordpieces(), bytes_and_pairs(), sentencepieces())
