"""Tokenizers from folders: tokenizer.json, or the vocabulary in the form of its kind.

    vocab.txt                  WordPiece: the piece on line i has id i, counted from 0
    vocab.json, merges.txt     byte-level BPE: pieces with their ids, and which pairs become one

Byte-level BPE knows 256 letters, the bytes, and merges neighbours in the order of merges.txt for as
long as there is a pair to merge; so nothing is unknown, and a space belongs to the word behind it.
RoBERTa puts <s> before a text and </s> after it, and </s></s> between a pair. GPT-2 puts nothing
there: its one special token, <|endoftext|>, stands for all of them.
SentencePiece's unigrams, as ALBERT has them, cut a text into the pieces whose probabilities have
the largest product; their normaliser is part of tokenizer.json, so that file alone is read.
Sources: Sennrich et al., 2016, and Radford et al., "GPT-2", 2019, §2.2; Kudo, "Subword
regularization", 2018.
"""

import json

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

from minidistil.arguments import path_like
from minidistil.config.folder import body_of
from minidistil.data.tokenizer import DEFAULT_LENGTH, SPECIAL, Tokenizer
from minidistil.data.wordpiece import wordpiece
from minidistil.files import MissingFileError

UNLIMITED = 1_000_000  # transformers writes 1e30 for "no limit"
TYPED = ("bert", "albert")  # the families whose tokenizers tell a pair's texts apart
ROBERTA = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
GPT2 = dict.fromkeys(SPECIAL, "<|endoftext|>")
ALBERT = {**SPECIAL, "pad": "<pad>", "unk": "<unk>"}


def load_tokenizer(folder):
    """A folder with tokenizer.json, vocab.txt, or vocab.json and merges.txt  ->  Tokenizer.

    tokenizer_config.json, where present, gives lower-casing, the names of the special tokens and
    the longest text; config.json the positions and whether the model is a BERT or an ALBERT, which
    read token_type_ids. Raises MissingFileError or ValueError.
    """
    folder = body_of(path_like("the folder", folder))
    said, model = (_json(folder / name) for name in ("tokenizer_config.json", "config.json"))
    lowercase = said.get("do_lower_case", True)
    names = {role: name for role in SPECIAL if (name := _name(said.get(f"{role}_token")))}
    if (folder / "tokenizer.json").is_file():
        path = folder / "tokenizer.json"
        backend = _from(path, lambda: tokenizers.Tokenizer.from_file(str(path)))
    elif (folder / "vocab.txt").is_file():
        backend = wordpiece(
            _read_vocabulary(folder / "vocab.txt"),
            {**SPECIAL, **names},
            lowercase=lowercase,
            strip_accents=said.get("strip_accents"),
            chinese=said.get("tokenize_chinese_chars", True),
        )
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        usual = ROBERTA if ROBERTA["cls"] in _json(folder / "vocab.json") else GPT2
        backend = _byte_pairs(folder, {**usual, **names}, said.get("add_prefix_space", False))
    else:
        raise MissingFileError(
            f"{folder} has neither tokenizer.json nor vocab.txt, nor vocab.json with merges.txt; "
            f"add one"
        )
    inputs = said.get("model_input_names", ())
    family = model.get("model_type", "bert" if "token_type_ids" in inputs else "")
    limits = [said.get("model_max_length"), _positions(family, model)]
    return Tokenizer(
        backend,
        names={**_names(backend), **names},
        max_length=min((int(n) for n in limits if n and n < UNLIMITED), default=DEFAULT_LENGTH),
        lowercase=lowercase,
        token_types=family in TYPED,
    )


def _positions(family, model):
    """How many tokens a config.json has positions for; None where it does not say."""
    rows = model.get("max_position_embeddings", model.get("n_positions"))
    reserved = model.get("pad_token_id", 1) + 1 if family == "roberta" else 0
    return rows and rows - reserved


def _names(backend):
    """What the special tokens are called where no file says so: as in the first family whose
    names are all there."""
    for names in (SPECIAL, ROBERTA, ALBERT, GPT2):
        if all(backend.token_to_id(name) is not None for name in names.values()):
            return names
    return SPECIAL


def _byte_pairs(folder, names, prefix):
    """RoBERTa's tokenizer. prefix: whether a text's first word gets a space, as the others have."""
    paths = [str(folder / name) for name in ("vocab.json", "merges.txt")]
    backend = _from(
        folder / "merges.txt", lambda: tokenizers.Tokenizer(models.BPE.from_file(*paths))
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    backend.decoder = decoders.ByteLevel()
    there = {role: name for role, name in names.items() if backend.token_to_id(name) is not None}
    backend.add_special_tokens([
        # the space before a mask belongs to the word that it hides
        tokenizers.AddedToken(name, lstrip=role == "mask", special=True)
        for role, name in {name: (role, name) for role, name in there.items()}.values()
    ])  # fmt: skip
    if "cls" in there and "sep" in there and there["cls"] != there["sep"]:
        ends = [(there[role], backend.token_to_id(there[role])) for role in ("sep", "cls")]
        backend.post_processor = processors.RobertaProcessing(*ends, add_prefix_space=prefix)
    return backend


def _from(path, read):
    try:
        return read()
    except Exception as error:  # the library raises nothing narrower
        reason = str(error).splitlines()[0]
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


def _json(path):
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold a JSON object, not a {type(value).__name__}")
    return value


def _name(token):
    """A special token in tokenizer_config.json is a string, or an object with its content."""
    return token.get("content") if isinstance(token, dict) else token
