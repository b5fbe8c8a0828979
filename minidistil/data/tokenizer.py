"""Text to ids and back: a WordPiece tokenizer of the `tokenizers` library behind a small door.

WordPiece cuts a word greedily into the longest pieces that the vocabulary holds, `##` marking a
piece that continues a word: unaffable -> un ##aff ##able. BERT puts [CLS] before a text and [SEP]
after it, and [SEP] between and after a pair.
Source: Schuster and Nakajima, "Japanese and Korean voice search", 2012; Devlin et al., 2018.
"""

import json
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from minidistil.files import MissingFileError

SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
UNLIMITED = 1_000_000  # transformers writes 1e30 for "no limit"
DEFAULT_LENGTH = 512  # what BERT reads, where nothing else is said
PREFIX = "##"


class Tokenizer:
    """A tokenizers.Tokenizer with padding and truncation set; calling it makes a batch.

    Its ids: pad_id, unk_id, cls_id, sep_id, mask_id, special_ids (all five and any other special
    token). token_types says whether a batch carries token_type_ids, which DistilBERT refuses.
    Everything else (encode, token_to_id, get_vocab, ...) is the wrapped tokenizer's own.
    """

    def __init__(
        self, backend, *, names=None, max_length=DEFAULT_LENGTH, lowercase=True, token_types=False
    ):
        self.backend = backend
        self.names = {**SPECIAL, **(names or {})}
        self.max_length = max_length
        self.lowercase = lowercase
        self.token_types = token_types
        for role, name in self.names.items():
            number = backend.token_to_id(name)
            if number is None:
                raise ValueError(
                    f"the vocabulary has no {role} token {name!r}; add it, or name another "
                    f"{role}_token in tokenizer_config.json"
                )
            setattr(self, f"{role}_id", number)
        added = backend.get_added_tokens_decoder().items()
        own = {getattr(self, f"{role}_id") for role in self.names}
        self.special_ids = tuple(sorted(own | {i for i, token in added if token.special}))
        backend.enable_padding(pad_id=self.pad_id, pad_token=self.names["pad"])
        backend.enable_truncation(max_length)

    def __getattr__(self, name):
        if name == "backend":  # while a copy is being made there is none yet
            raise AttributeError(name)
        return getattr(self.backend, name)

    def __call__(self, texts, text_pairs=None, max_length=None):
        """texts (str or B strs), text_pairs (the same)  ->  dict of int64 arrays (B,T).

        input_ids, attention_mask and, if token_types, token_type_ids; padded to the longest,
        truncated to max_length (a pair: its longer text first).
        Raises ValueError for an empty text, unequal numbers, or a max_length beyond the model's.
        """
        encodings = self.encodings(texts, text_pairs, max_length)
        batch = {
            "input_ids": np.array([e.ids for e in encodings], np.int64),
            "attention_mask": np.array([e.attention_mask for e in encodings], np.int64),
        }
        if self.token_types:
            batch["token_type_ids"] = np.array([e.type_ids for e in encodings], np.int64)
        return batch

    def encodings(self, texts, text_pairs=None, max_length=None):
        """What a call makes its batch of: B objects with ids, type_ids, offsets and more."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        _check_texts(texts)
        inputs = texts
        if text_pairs is not None:
            text_pairs = [text_pairs] if isinstance(text_pairs, str) else list(text_pairs)
            if len(text_pairs) != len(texts):
                raise ValueError(
                    f"{len(texts)} texts but {len(text_pairs)} text_pairs; give one to each"
                )
            _check_texts(text_pairs)
            inputs = list(zip(texts, text_pairs, strict=True))
        self._limit(max_length)
        return self.backend.encode_batch(inputs)

    def _limit(self, max_length):
        length = self.max_length if max_length is None else max_length
        if not 3 <= length <= self.max_length:
            raise ValueError(
                f"max_length {length} is not between 3 and the {self.max_length} positions of the "
                "model; choose a length that it has"
            )
        if self.backend.truncation["max_length"] != length:
            self.backend.enable_truncation(length)

    def content(self, texts):
        """B texts of any length  ->  B lists of ids without special tokens, not truncated."""
        self.backend.no_truncation()
        self.backend.no_padding()
        try:
            encodings = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        finally:
            self.backend.enable_truncation(self.max_length)
            self.backend.enable_padding(pad_id=self.pad_id, pad_token=self.names["pad"])
        return [e.ids for e in encodings]

    def decode(self, ids, skip_special_tokens=True):
        """ids (T,)  ->  str."""
        ids = [int(i) for i in np.asarray(ids).ravel()]
        return self.backend.decode(ids, skip_special_tokens=skip_special_tokens)

    @property
    def vocab_size(self):
        """The number of ids: one more than the largest."""
        return max(self.backend.get_vocab().values()) + 1

    def save(self, folder, token_types=None):
        """Write tokenizer.json, vocab.txt and tokenizer_config.json, as transformers reads them.

        token_types: whether the model of this folder reads token_type_ids; by default what this
        tokenizer gives. A teacher's tokenizer is saved beside its DistilBERT with False.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        token_types = self.token_types if token_types is None else token_types
        plain = tokenizers.Tokenizer.from_str(self.backend.to_str())
        plain.no_padding()
        plain.no_truncation()
        plain.save(str(folder / "tokenizer.json"))
        words = sorted(self.backend.get_vocab().items(), key=lambda word: word[1])
        text = "".join(f"{word}\n" for word, _ in words)
        (folder / "vocab.txt").write_text(text, encoding="utf-8", newline="\n")
        inputs = ["input_ids", "token_type_ids", "attention_mask"]
        config = {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.lowercase,
            "model_max_length": self.max_length,
            "model_input_names": inputs if token_types else [inputs[0], inputs[2]],
            **{f"{role}_token": name for role, name in self.names.items()},
        }
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def load_tokenizer(folder):
    """A folder with tokenizer.json or vocab.txt  ->  Tokenizer.

    tokenizer_config.json, where present, gives lower-casing, the names of the special tokens and
    the longest text; config.json the positions and whether the model is a BERT, which reads
    token_type_ids. Raises MissingFileError or ValueError.
    """
    folder = Path(folder)
    said, model = (_json(folder / name) for name in ("tokenizer_config.json", "config.json"))
    lowercase = said.get("do_lower_case", True)
    names = {role: name for role in SPECIAL if (name := _name(said.get(f"{role}_token")))}
    if (folder / "tokenizer.json").is_file():
        backend = _from_json(folder / "tokenizer.json")
    elif (folder / "vocab.txt").is_file():
        backend = _wordpiece(
            _read_vocabulary(folder / "vocab.txt"),
            {**SPECIAL, **names},
            lowercase=lowercase,
            strip_accents=said.get("strip_accents"),
            chinese=said.get("tokenize_chinese_chars", True),
        )
    else:
        raise MissingFileError(f"{folder} has neither tokenizer.json nor vocab.txt; add one")
    limits = (said.get("model_max_length"), model.get("max_position_embeddings"))
    limits = [int(limit) for limit in limits if limit and limit < UNLIMITED]
    inputs = said.get("model_input_names", ())
    return Tokenizer(
        backend,
        names=names,
        max_length=min(limits, default=DEFAULT_LENGTH),
        lowercase=lowercase,
        token_types=model.get("model_type", "bert" if "token_type_ids" in inputs else "") == "bert",
    )


def train_wordpiece(documents, vocab_size, *, lowercase=True, min_frequency=2):
    """Learn a vocabulary of at most vocab_size pieces from an iterable of texts  ->  Tokenizer.

    The same texts give the same vocabulary. Left alone the trainer numbers the letters in the
    order of a hash table, anew in each process, and breaks ties between pieces by number; so the
    letters are counted first and handed over in order, for which the texts wait in a temporary
    file. Letters beyond the most frequent (an eighth of the vocabulary, 100 to 1000 of them)
    become [UNK]: each takes two places, at the start of a word and inside.
    """
    backend = _wordpiece({}, SPECIAL, lowercase=lowercase)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as spool:
        counts = _spool(documents, backend.normalizer, spool)
        counts = {c: n for c, n in counts.items() if n >= min_frequency and not c.isspace()}
        limit = min(1000, max(100, vocab_size // 8))
        letters = sorted(sorted(counts, key=lambda c: (-counts[c], c))[:limit])
        inside = [PREFIX + c for c in letters if not _splits(c)]
        first = [*SPECIAL.values(), *letters, *inside]
        if not letters or vocab_size < len(first):
            raise ValueError(
                f"vocab_size {vocab_size} must hold {len(SPECIAL)} special tokens and the texts' "
                f"{len(letters)} letters, {len(first)} in all; give a larger one"
                if letters
                else "the documents hold no letter; a vocabulary needs some text"
            )
        trainer = trainers.WordPieceTrainer(
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            special_tokens=first,
            initial_alphabet=letters,
            limit_alphabet=len(letters),
            continuing_subword_prefix=PREFIX,
            show_progress=False,
        )
        backend.train_from_iterator(spool, trainer)
    vocabulary = backend.get_vocab(with_added_tokens=True)
    return Tokenizer(_wordpiece(vocabulary, SPECIAL, lowercase=lowercase), lowercase=lowercase)


def _spool(documents, normalizer, spool):
    """Write one document a line; count the letters that the tokenizer will see of them."""
    counts = Counter()
    for document in documents:
        counts.update(normalizer.normalize_str(document))
        spool.write(" ".join(document.splitlines()) + "\n")
    spool.seek(0)
    return counts


def _splits(letter):
    """Whether BERT makes a word of this character alone, so that it never continues one."""
    ascii_mark = letter.isascii() and not letter.isalnum()
    return ascii_mark or unicodedata.category(letter).startswith("P")


def check_vocabulary(tokenizer, vocab_size):
    """Raise ValueError if the tokenizer gives ids for which a model of vocab_size has no row."""
    if tokenizer.vocab_size > vocab_size:
        raise ValueError(
            f"the model's vocab_size {vocab_size} is smaller than the tokenizer's "
            f"{tokenizer.vocab_size}; use the tokenizer that the model was trained with"
        )


# ------------------------------------------------------- files


def _wordpiece(vocabulary, names, *, lowercase, strip_accents=None, chinese=True):
    """BERT's tokenizer over a vocabulary {piece: id}; accents go with the capitals by default."""
    model = models.WordPiece(vocabulary, unk_token=names["unk"], continuing_subword_prefix=PREFIX)
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=strip_accents, handle_chinese_chars=chinese
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix=PREFIX)
    backend.add_special_tokens([n for n in names.values() if n in vocabulary])
    cls, sep = names["cls"], names["sep"]
    if cls in vocabulary and sep in vocabulary:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{cls} $A {sep}",
            pair=f"{cls} $A {sep} $B:1 {sep}:1",
            special_tokens=[(cls, vocabulary[cls]), (sep, vocabulary[sep])],
        )
    return backend


def _from_json(path):
    try:
        return tokenizers.Tokenizer.from_file(str(path))
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


def _check_texts(texts):
    if not texts:
        raise ValueError("there are no texts; give at least one")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"text {i} is a {type(text).__name__}; every text must be a string")
        if not text.strip():
            raise ValueError(f"text {i} is empty; every text needs at least one word")
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise ValueError(
                f"text {i} holds bytes or surrogates that are no text; encode as UTF-8"
            )
