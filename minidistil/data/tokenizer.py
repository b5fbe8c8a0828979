"""Text to ids and back: a tokenizer of the `tokenizers` library behind a small door.

What stands inside is the folder's own: WordPiece for BERT and DistilBERT (`wordpiece.py`), pairs of
bytes for RoBERTa, SentencePiece's unigrams for ALBERT (`tokenizer_files.py`).
"""

import json
from pathlib import Path

import numpy as np
import tokenizers

from minidistil import files

SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
DEFAULT_LENGTH = 512  # what BERT reads, where nothing else is said
TOGETHER = 256  # texts tokenised at once: what is noted beside their ids is short-lived
CLASSES = {  # by the kind of model inside: which class of transformers reads the folder
    "WordPiece": "BertTokenizer",
    "BPE": "RobertaTokenizer",
    "Unigram": "AlbertTokenizer",
}


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
        inputs = self._inputs(texts, text_pairs, max_length)
        return self.backend.encode_batch(inputs)

    def sequences(self, texts, text_pairs=None, max_length=None):
        """As a call, without padding  ->  a list of B ids (T,), one of B token types (T,)."""
        inputs = self._inputs(texts, text_pairs, max_length)
        ids, types = [], []
        self.backend.no_padding()
        try:
            for start in range(0, len(inputs), TOGETHER):
                for encoding in self.backend.encode_batch(inputs[start : start + TOGETHER]):
                    ids.append(np.array(encoding.ids, np.int64))
                    types.append(np.array(encoding.type_ids, np.int64))
        finally:
            self.backend.enable_padding(pad_id=self.pad_id, pad_token=self.names["pad"])
        return ids, types

    def _inputs(self, texts, text_pairs, max_length):
        """Texts, or pairs of them, as the wrapped tokenizer takes them; it then cuts them."""
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

    def words(self, sentences, max_length=None):
        """B lists of words  ->  B encodings, unpadded; word_ids says which word a piece is of."""
        self._limit(max_length)
        self.backend.no_padding()
        try:
            return self.backend.encode_batch(sentences, is_pretokenized=True)
        finally:
            self.backend.enable_padding(pad_id=self.pad_id, pad_token=self.names["pad"])

    def windows(self, questions, contexts, max_length, stride):
        """B questions, B contexts  ->  for each the encodings of the pair, unpadded: as many as it
        takes to read the whole context, each repeating `stride` pieces of the one before.

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
        self.backend.no_padding()
        try:
            pairs = self.backend.encode_batch(list(zip(questions, contexts, strict=True)))
        finally:
            self.backend.enable_truncation(self.max_length)
            self.backend.enable_padding(pad_id=self.pad_id, pad_token=self.names["pad"])
        return [[pair, *pair.overflowing] for pair in pairs]

    def decode(self, ids, skip_special_tokens=True):
        """ids (T,)  ->  str."""
        ids = [int(i) for i in np.asarray(ids).ravel()]
        return self.backend.decode(ids, skip_special_tokens=skip_special_tokens)

    @property
    def vocab_size(self):
        """The number of ids: one more than the largest."""
        return max(self.backend.get_vocab().values()) + 1

    def save(self, folder, token_types=None):
        """Write tokenizer.json and tokenizer_config.json, as transformers reads them.

        With them goes the vocabulary in the form of its kind: vocab.txt, or vocab.json and
        merges.txt; unigrams have tokenizer.json alone.
        token_types: whether the model of this folder reads token_type_ids; by default what this
        tokenizer gives. A teacher's tokenizer is saved beside its DistilBERT with False.
        """
        token_types = self.token_types if token_types is None else token_types
        plain = tokenizers.Tokenizer.from_str(self.backend.to_str())
        plain.no_padding()
        plain.no_truncation()
        contents = {"tokenizer.json": plain.to_str(pretty=True)}
        kind = json.loads(plain.to_str())["model"]
        words = dict(sorted(self.backend.get_vocab().items(), key=lambda word: word[1]))
        if kind["type"] == "WordPiece":
            contents["vocab.txt"] = "".join(f"{word}\n" for word in words)
        elif kind["type"] == "BPE":
            contents["vocab.json"] = json.dumps(words, ensure_ascii=False)
            pairs = "".join(f"{left} {right}\n" for left, right in kind["merges"])
            contents["merges.txt"] = f"#version: 0.2\n{pairs}"
        many = len(set(self.names.values())) > 1  # GPT-2 has one special token for every role
        inputs = ["input_ids", "token_type_ids", "attention_mask"]
        config = {
            "tokenizer_class": CLASSES[kind["type"]] if many else "GPT2Tokenizer",
            "do_lower_case": self.lowercase,
            "model_max_length": self.max_length,
            "model_input_names": inputs if token_types else [inputs[0], inputs[2]],
            **{f"{role}_token": name for role, name in self.names.items()},
        }
        contents["tokenizer_config.json"] = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        encoded = {name: text.encode() for name, text in contents.items()}
        files.write_together(Path(folder), encoded)


def check_vocabulary(tokenizer, vocab_size):
    """Raise ValueError if the tokenizer gives ids for which a model of vocab_size has no row."""
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
