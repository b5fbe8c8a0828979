"""The Tokenizer: text to ids and back, around a tokenizer of the `tokenizers` library.

The wrapped tokenizer is the folder's own: WordPiece for BERT and DistilBERT, byte-level BPE for
RoBERTa and GPT-2, SentencePiece's unigrams for ALBERT (`tokenizer_kinds`, `tokenizer_files`).
"""

import warnings
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minidistil.data.tokenizer_config import OPTIONAL, SHORTEST
from minidistil.data.tokenizer_kinds import SPECIAL
from minidistil.data.tokenizer_save import contents
from minidistil.io.counts import part_of
from minidistil.io.files import write_together

DEFAULT_LENGTH = 512  # BERT's, where the folder gives none
CHUNK = 256  # texts tokenised at once, which bounds the memory of their encodings


class Pieces(NamedTuple):
    """The pieces (T,) of a sentence that was given as words."""

    ids: list
    type_ids: list
    word_ids: list  # of each piece: the number of its word, None for a special token

    @property
    def sequence_ids(self) -> list[int | None]:
        """As of an Encoding: 0 for a piece of the sentence, None for a special token."""
        return [None if word is None else 0 for word in self.word_ids]


class Tokenizer:
    """A tokenizers.Tokenizer with padding and truncation set; calling it makes a batch.

    Its ids: pad_id, cls_id, sep_id, unk_id (None where the vocabulary has none), mask_id (an error
    where it has none) and special_ids (all of these and any other special token); `ids` maps the
    roles of existing special tokens to their ids. token_types: whether a batch has token_type_ids,
    which DistilBERT refuses.
    Other attributes (encode, token_to_id, get_vocab, ...) are those of the wrapped tokenizer.
    """

    def __init__(
        self, backend, *, names: Mapping[str, str | None] | None = None,
        max_length: int = DEFAULT_LENGTH, token_types: bool = False,
    ):  # fmt: skip
        self.backend = backend
        self.max_length = max_length
        self.token_types = token_types
        self.names, self.ids = {}, {}
        for role, usual in SPECIAL.items():
            name = (names or {}).get(role, usual)
            number = None if name is None else backend.token_to_id(name)
            if number is not None:
                self.names[role], self.ids[role] = name, number
            elif role not in OPTIONAL:
                raise ValueError(
                    f"the vocabulary has no {role} token {name!r}; add it, or name another "
                    f"{role}_token in tokenizer_config.json"
                )
        self.pad_id, self.cls_id, self.sep_id = (self.ids[role] for role in ("pad", "cls", "sep"))
        self.unk_id = self.ids.get("unk")
        added = {token.content for token in backend.get_added_tokens_decoder().values()}
        backend.add_special_tokens(sorted(set(self.names.values()) - added))
        special = {i for i, t in backend.get_added_tokens_decoder().items() if t.special}
        self.special_ids = tuple(sorted(special | set(self.ids.values())))
        self.side = (backend.truncation or {}).get("direction", "right")  # where texts are cut
        self._pad()
        self._cut(max_length)

    def __getattr__(self, name):
        if name == "backend":  # an object that is being copied has none yet
            raise AttributeError(name)
        return getattr(self.backend, name)

    def for_model(self, max_length: int, token_types: bool) -> "Tokenizer":
        """The same tokenizer for a model of max_length positions, with or without token types."""
        return Tokenizer(
            self.backend, names=self.names, max_length=max_length, token_types=token_types
        )

    @property
    def mask_id(self) -> int:
        """The id of [MASK]. Raises ValueError where the vocabulary has none."""
        if "mask" not in self.ids:
            raise ValueError(
                "the tokenizer has no mask token, which masked language modelling needs; name one "
                "of its pieces as mask_token in tokenizer_config.json"
            )
        return self.ids["mask"]

    @property
    def lowercase(self) -> bool:
        """Whether texts are lower-cased."""
        return lowers(self.backend)

    @property
    def rules(self) -> str:
        """Everything but the vocabulary that determines the ids of a text, as text to compare."""
        backend, around = self.backend, self.backend.encode("", "")
        steps = backend.normalizer, backend.pre_tokenizer, backend.encode_special_tokens
        return repr((*steps, around.ids, around.type_ids))

    def __call__(
        self, texts: str | Iterable[str], text_pairs: str | Iterable[str] | None = None,
        max_length: int | None = None,
    ) -> dict[str, np.ndarray]:  # fmt: skip
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

    def encodings(
        self, texts: str | Iterable[str], text_pairs: str | Iterable[str] | None = None,
        max_length: int | None = None,
    ) -> list:  # fmt: skip
        """The B tokenizers.Encoding of a call: ids, type_ids, offsets and more."""
        inputs = self._inputs(texts, text_pairs, max_length)
        return self.backend.encode_batch(inputs)

    def whole(self, texts: Iterable[str], text_pairs: Iterable[str] | None = None) -> Iterator:
        """As `encodings`, uncut and unpadded, one after another."""
        inputs = self._inputs(texts, text_pairs, None)
        for start in range(0, len(inputs), CHUNK):
            with self._uncut():
                some = self.backend.encode_batch(inputs[start : start + CHUNK])
            yield from some

    def sequences(
        self, texts: Iterable[str], text_pairs: Iterable[str] | None = None,
        max_length: int | None = None,
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:  # fmt: skip
        """As a call, without padding  ->  a list of B ids (T,), one of B token types (T,).

        A warning counts the texts that are cut.
        """
        length = self.checked_length(max_length)
        ids, types, cut = [], [], 0
        inputs = self._inputs(texts, text_pairs, length)
        with self._unpadded():
            for start in range(0, len(inputs), CHUNK):
                for encoding in self.backend.encode_batch(inputs[start : start + CHUNK]):
                    ids.append(np.array(encoding.ids, np.int64))
                    types.append(np.array(encoding.type_ids, np.int64))
                    cut += bool(encoding.overflowing)
        if cut:
            warnings.warn(
                f"{part_of(cut, len(inputs), 'text', 'is')} longer than {length} tokens; what is "
                f"beyond them is cut off",
                stacklevel=3,
            )  # fmt: skip
        return ids, types

    def _inputs(self, texts, text_pairs, max_length):
        """Texts, or pairs, as arguments of the wrapped tokenizer, which cuts to max_length."""
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
        return inputs

    def checked_length(self, max_length: int | None) -> int:
        """max_length, by default the model's. Raises ValueError for one beyond its positions."""
        length = self.max_length if max_length is None else max_length
        if not SHORTEST <= length <= self.max_length:
            raise ValueError(
                f"max_length {length} is not between {SHORTEST} and the {self.max_length} "
                f"positions of the model; choose a length that it has"
            )
        return length

    def _limit(self, max_length):
        length = self.checked_length(max_length)
        if self.backend.truncation["max_length"] != length:
            self._cut(length)

    def _cut(self, length):
        self.backend.enable_truncation(length, direction=self.side)

    def _pad(self):
        self.backend.enable_padding(pad_id=self.pad_id, pad_token=self.names["pad"])

    @contextmanager
    def _unpadded(self):
        """A context in which encodings are not padded."""
        self.backend.no_padding()
        try:
            yield
        finally:
            self._pad()

    @contextmanager
    def _uncut(self):
        """A context in which encodings are neither cut nor padded."""
        self.backend.no_truncation()
        try:
            with self._unpadded():
                yield
        finally:
            self._cut(self.max_length)

    def content(self, texts: Iterable[str]) -> list[list[int]]:
        """B texts of any length  ->  B lists of ids without special tokens, not truncated."""
        with self._uncut():
            encodings = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        return [e.ids for e in encodings]

    def words(self, sentences: Iterable[Sequence[str]]) -> list[Pieces]:
        """B lists of words  ->  B uncut Pieces of the words joined by spaces.

        A byte-level tokenizer, which counts a space to the next word, thus gives the pieces of
        running text. A word of white space, or one that the tokenizer drops, has no piece.
        """
        texts, ends, numbers = zip(*map(_running, sentences), strict=True)
        with self._uncut():
            encodings = self.backend.encode_batch(list(texts))
        return [
            Pieces(e.ids, e.type_ids, _word_ids(e, *places))
            for e, *places in zip(encodings, ends, numbers, strict=True)
        ]

    def windows(
        self, questions: Sequence[str], contexts: Sequence[str], max_length: int, stride: int
    ) -> list[list]:
        """B questions, B contexts  ->  for each the unpadded encodings of the pair: windows that
        cover the whole context, each repeating `stride` pieces of the one before.

        Raises ValueError where a question leaves no more than `stride` pieces for its context.
        """
        self._limit(max_length)
        longest = max(len(ids) for ids in self.content(questions))
        room = max_length - longest - self.backend.num_special_tokens_to_add(True)
        if not 0 <= stride < room:
            raise ValueError(
                f"a stride of {stride} must be less than the {room} pieces of a context that fit "
                f"{max_length} beside a question of {longest}; shorten it, or lengthen the window"
            )
        self.backend.enable_truncation(max_length, stride=stride, strategy="only_second")
        try:
            with self._unpadded():
                pairs = self.backend.encode_batch(list(zip(questions, contexts, strict=True)))
        finally:
            self._cut(self.max_length)
        return [[pair, *pair.overflowing] for pair in pairs]

    def decode(self, ids: np.ndarray, skip_special_tokens: bool = True) -> str:
        """ids (T,)  ->  str."""
        ids = [int(i) for i in np.asarray(ids).ravel()]
        return self.backend.decode(ids, skip_special_tokens=skip_special_tokens)

    @property
    def vocab_size(self) -> int:
        """The number of ids: one more than the largest."""
        return max(self.backend.get_vocab().values()) + 1

    def to_json(self) -> str:
        """The wrapped tokenizer as tokenizer.json, without the padding and truncation set here."""
        self.backend.no_truncation()
        try:
            with self._unpadded():
                return self.backend.to_str(pretty=True)
        finally:
            self._cut(self.max_length)

    def save(self, folder: str | Path, token_types: bool | None = None) -> None:
        """Write tokenizer.json, tokenizer_config.json and the vocabulary in the form of its kind:
        vocab.txt, or vocab.json and merges.txt; unigrams have tokenizer.json alone.

        transformers then gives the same ids. token_types: whether the folder's model reads
        token_type_ids; by default this tokenizer's setting. A teacher's tokenizer is saved beside
        its DistilBERT with False.
        """
        token_types = self.token_types if token_types is None else token_types
        texts = contents(self, token_types)
        write_together(Path(folder), {name: text.encode() for name, text in texts.items()})


def lowers(backend) -> bool:
    """Whether a tokenizers.Tokenizer lower-cases texts."""
    return backend.normalizer is not None and "A" not in backend.normalizer.normalize_str("A")


def check_vocabulary(tokenizer: Tokenizer, vocab_size: int) -> None:
    """Raise ValueError if the tokenizer has ids beyond the rows of a model of vocab_size."""
    if tokenizer.vocab_size > vocab_size:
        raise ValueError(
            f"the model's vocab_size {vocab_size} is smaller than the tokenizer's "
            f"{tokenizer.vocab_size}; use the tokenizer that the model was trained with"
        )


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


def _running(words):
    """Words  ->  the text of the non-blank words, and of each of these its end and its number."""
    kept = [(number, word.strip()) for number, word in enumerate(words) if word.strip()]
    ends, end = [], -1
    for _, word in kept:
        end += 1 + len(word)
        ends.append(end)
    return " ".join(word for _, word in kept), ends, [number for number, _ in kept]


def _word_ids(encoding, ends, numbers):
    """Of each piece the number of its word: the first word that ends after the piece's start (the
    space before a word belongs to the word)."""
    last = len(ends) - 1
    return [
        None if special else numbers[min(bisect_right(ends, start), last)]
        for special, (start, _) in zip(encoding.special_tokens_mask, encoding.offsets, strict=True)
    ]
