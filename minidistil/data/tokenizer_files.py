"""Loads a tokenizer from a folder: tokenizer.json, or the vocabulary in the form of its kind.

    vocab.txt                  WordPiece: the piece on line i has id i, counted from 0
    vocab.json, merges.txt     byte-level BPE: pieces with their ids, and the merges in order

Byte-level BPE starts from 256 letters, the bytes, and merges neighbours in the order of merges.txt
until no pair is left; so no text is unknown, and a space belongs to the word after it.
RoBERTa puts <s> before a text and </s> after it, and </s></s> between a pair. GPT-2 adds no token;
its one special token, <|endoftext|>, has all roles.
SentencePiece's unigrams (ALBERT) cut a text into the pieces whose probabilities have the largest
product; their normaliser is part of tokenizer.json, so that file alone is read.
Sources: Sennrich et al., 2016, and Radford et al., "GPT-2", 2019, §2.2; Kudo, "Subword
regularization", 2018.
"""

from pathlib import Path

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from minidistil.config.sentence_folder import body_of
from minidistil.data.tokenizer import DEFAULT_LENGTH, Tokenizer, lowers
from minidistil.data.tokenizer_config import OPTIONAL, UNLIMITED, read_tokenizer_config
from minidistil.data.tokenizer_kinds import (
    GPT2,
    KINDS,
    ROBERTA,
    SPECIAL,
    bert_ends,
    byte_pairs,
    roberta_ends,
    wordpiece,
)
from minidistil.io.arguments import path_like
from minidistil.io.files import MissingFileError
from minidistil.io.json_fields import Fields

TYPED = ("bert", "albert")  # the families that read token_type_ids
WORDPIECE = ("", "bert", "distilbert", "electra", "mobilebert", "squeezebert", "convbert")
LARGEST = 2**28  # bytes of a vocabulary: 256 MiB, ten times a large one
NORMALISES = {  # keys of tokenizer_config.json, and the normaliser's names for them
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
BYTES = ("roberta", "gpt2")
PROBE = "a\u0b9f \U000123ab"  # letters that few vocabularies have


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """A folder with tokenizer.json, vocab.txt, or vocab.json and merges.txt  ->  Tokenizer.

    Its other files (`tokenizer_config`) give options, the names of the special tokens, further
    pieces and the longest text; config.json gives the number of positions and the family, of which
    BERT and ALBERT read token_type_ids. Raises MissingFileError or ValueError.
    """
    folder = body_of(path_like("the folder", folder))
    config, model = read_tokenizer_config(folder), Fields(folder / "config.json")
    family = model.get("model_type") or ("bert" if "token_type_ids" in config.inputs else "")
    path, backend, ends = _read(folder, config, family)
    _add(backend, config, model.count("vocab_size"))
    names = {**_names(backend, config, family), **config.names}
    _from(path, lambda: ends(backend, {**SPECIAL, **names}))
    if config.side:
        backend.enable_truncation(DEFAULT_LENGTH, direction=config.side)
    backend.encode_special_tokens = config.split_special
    limits = [n for n in (config.max_length, _positions(family, model)) if n]
    tokenizer = Tokenizer(
        backend, names=names, max_length=min(limits, default=DEFAULT_LENGTH),
        token_types=family in TYPED,
    )  # fmt: skip
    _from(path, lambda: backend.encode(PROBE, PROBE))
    return tokenizer


def _read(folder, config, family):
    """The file that holds the vocabulary, its tokenizers.Tokenizer, and a function that sets (or
    checks) the special tokens around a text once all pieces are added."""
    whole, lines, pairs = (folder / n for n in ("tokenizer.json", "vocab.txt", "merges.txt"))
    if whole.is_file():
        backend = _from(whole, lambda: tokenizers.Tokenizer.from_file(str(whole)))
        _apply_options(backend, config)
        return whole, backend, lambda backend, names: _check(backend, config, whole)
    if lines.is_file():
        _of_class(config, lines, WORDPIECE)
        backend = _from(lines, lambda: wordpiece(
            _read_vocabulary(lines), {**SPECIAL, **config.names},
            lowercase=config.fields.flag("do_lower_case") is not False,
            strip_accents=config.fields.flag("strip_accents"),
            chinese=config.fields.flag("tokenize_chinese_chars") is not False,
        ))  # fmt: skip
        return lines, backend, bert_ends
    if (folder / "vocab.json").is_file() and pairs.is_file():
        _of_class(config, pairs, ("", *BYTES))
        return pairs, *_byte_pairs(folder, config, family)
    raise MissingFileError(
        f"{folder} has neither tokenizer.json nor vocab.txt, nor vocab.json with merges.txt; "
        f"add one"
    )


def _of_class(config, path, allowed):
    """A vocabulary file alone does not define how texts are cut: raise ValueError if the class that
    tokenizer_config.json names is not among those that this module builds from it."""
    if config.family not in allowed:
        raise ValueError(
            f"{config.fields.path}: tokenizer_class is for {config.family[:60]}, which reads "
            f"{path.name} in its own way; this version knows {', '.join(filter(None, allowed))}: "
            f"save the folder's tokenizer.json"
        )


def _apply_options(backend, config):
    """Apply the options of tokenizer_config.json that override tokenizer.json in the named class of
    transformers; a generic class has none."""
    normalizer, pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    if config.family in WORDPIECE[1:] and isinstance(normalizer, normalizers.BertNormalizer):
        for key, name in NORMALISES.items():
            if (value := config.fields.flag(key)) is not None:
                setattr(normalizer, name, value)
    elif config.family in BYTES and isinstance(pre_tokenizer, pre_tokenizers.ByteLevel):
        if (value := config.fields.flag("add_prefix_space")) is not None:
            pre_tokenizer.add_prefix_space = value
    elif config.family == "albert":
        lower = config.fields.flag("do_lower_case")
        if lower not in (None, lowers(backend)):
            raise config.fields.refuse("do_lower_case", f"{not lower}, as tokenizer.json does it")


def _check(backend, config, path):
    """Raise ValueError where tokenizer.json and tokenizer_config.json name other special tokens."""
    used = {"unk": getattr(backend.model, "unk_token", None)}
    encoding = backend.encode("")
    if config.family in (*WORDPIECE, "roberta") and len(encoding.tokens) == 2:
        used["cls"], used["sep"] = encoding.tokens
    for role, name in used.items():
        if name and config.names.get(role) not in (None, name):
            raise ValueError(
                f"{path} uses {name[:60]!r} where tokenizer_config.json says that the {role}_token "
                f"is {config.names[role][:60]!r}; correct one of them"
            )


def _add(backend, config, rows):
    """Add the pieces beyond the vocabulary, in the order of their ids; then the special tokens that
    have no id yet, as far as the model has rows for them. rows: None where it is unknown."""
    for number, token in sorted(config.added.items()):
        backend.add_tokens([token])
        if backend.token_to_id(token.content) != number:
            raise ValueError(
                f"{config.fields.path.parent} gives the added token {token.content[:60]!r} the id "
                f"{number}, but beside the vocabulary it is {backend.token_to_id(token.content)}; "
                f"ids follow one another"
            )
    for token in (*config.named.values(), *config.extra):
        known = {added.content for added in backend.get_added_tokens_decoder().values()}
        here = backend.token_to_id(token.content) is not None
        if token.content not in known and (here or rows is None or backend.get_vocab_size() < rows):
            backend.add_tokens([token])


def _positions(family, model):
    """The longest text by config.json's number of positions; None where it has none."""
    rows = model.count("max_position_embeddings", 1, UNLIMITED) or model.count("n_positions", 1)
    if not rows or family != "roberta":
        return rows
    padding = model.count("pad_token_id")
    reserved = 2 if padding is None else padding + 1
    if rows <= reserved:
        raise model.refuse("max_position_embeddings", f"more than the {reserved} before a text")
    return rows - reserved


def _names(backend, config, family):
    """Names of the special tokens that no file names.

    They are those of the first family whose names are all in the vocabulary; without such a family,
    and for GPT-2, bos begins a text, and eos ends it and pads.
    """
    begin, end = (config.names.get(role) for role in ("bos", "eos"))
    ends = {**dict.fromkeys(SPECIAL, end), "cls": begin or end} if end else {}
    if ends and (config.family or family) == "gpt2":
        return ends
    for names in KINDS:
        if all(backend.token_to_id(n) is not None for r, n in names.items() if r not in OPTIONAL):
            return names
    return ends


def _byte_pairs(folder, config, family):
    """RoBERTa's or GPT-2's tokenizer, and the function that sets its end tokens. The folder names
    the family; otherwise the vocabulary shows it."""
    vocabulary, pairs = Fields(folder / "vocab.json"), folder / "merges.txt"
    numbers = {vocabulary.whole(piece, number) for piece, number in vocabulary.values.items()}
    if len(numbers) < len(vocabulary.values) or None in numbers:
        raise ValueError(f"{vocabulary.path}: each piece needs an id of its own; save it again")
    kind = next((k for k in (config.family, family) if k in BYTES), None)
    ends = kind == "roberta" if kind else ROBERTA["cls"] in vocabulary.values
    names = {**(ROBERTA if ROBERTA["cls"] in vocabulary.values else GPT2), **config.names}
    model = _from(pairs, lambda: models.BPE.from_file(str(vocabulary.path), str(pairs)))
    prefix = bool(config.fields.flag("add_prefix_space"))
    backend = byte_pairs(model, names, prefix, ends=False)
    return backend, lambda backend, names: ends and roberta_ends(backend, names, prefix)


def _from(path, read):
    """read() for a file; every failure of the library becomes a ValueError of one line."""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} is larger than {LARGEST >> 20} MiB, the most that is read")
    try:
        return read()
    except ValueError as error:
        raise error from None
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise  # an interrupt; the library's panics are BaseExceptions as well
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ValueError(f"{path} is not a tokenizer ({reason}); save it again") from None


def _read_vocabulary(path):
    """vocab.txt: the piece on line i has id i, counted from 0."""
    try:
        words = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 at byte {error.start}; save it again") from None
    words = words[:-1] if words[-1] == "" else words
    words = [word.rstrip("\r") for word in words]
    vocabulary = {word: i for i, word in enumerate(words)}
    if not words or len(vocabulary) < len(words):
        raise ValueError(
            f"{path} has {len(words)} lines but {len(vocabulary)} different pieces; each line "
            "must be a piece of its own"
        )
    return vocabulary
