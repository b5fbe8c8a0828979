"""Data augmentation: replaces words by predictions of a masked LM or by neighbours in vector space.

For each word of letters alone that is not a function word:

    one piece       it is masked and the model reads  [CLS] masked text [SEP] text [SEP];
                    the top-M words are the candidates
    several pieces  the M words whose vectors have the largest cosine with the word's own

Then N times: every such word is replaced, with probability p, by one of its candidates, drawn
uniformly. Duplicates are dropped, the original text is kept. Of a pair one side is rewritten at a
time, the other being the original.

Source: Jiao et al., "TinyBERT", 2020, algorithm 1; M, N and p as its data_augmentation.py. There
the second side's copies hold the last rewritten first side; here the original. Vectors are the
model's own word embeddings, with the mean for a word of several pieces, or those of a GloVe file,
as there. The list of function words is our own.
"""

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from minidistil.data.sources import lines
from minidistil.data.tokenizer import Tokenizer
from minidistil.data.tokenizer_kinds import PREFIX
from minidistil.io.files import MissingFileError
from minidistil.io.limits import cut
from minidistil.model.model import Model
from minidistil.tasks.base_predictor import BATCH_SIZE

SITE = 0x41554749  # "AUGI": separates these draws from others of the same seed
LINES = 100_000  # of a file of vectors, which are sorted by frequency
TEXT = """a an the this that these those
    i me my mine myself we us our ours ourselves you your yours yourself yourselves
    he him his himself she her hers herself it its itself they them their theirs themselves
    who whom whose which what where when why how
    am is are was were be been being have has had having do does did doing
    can could may might must shall should will would
    and but or nor so yet if because as until while although though unless than then
    of at by for with about against between into through during before after above below to from
    up down in out on off over under onto upon within without toward towards across along
    again further once here there all any both each few more most other some such no not only own
    same too very just now ever never also s t d ll m re ve"""
FUNCTION_WORDS = frozenset(TEXT.split())


class Augmenter:
    """Rewrites texts. model: for fill-mask, with a WordPiece tokenizer; candidates: M;
    probability: p.

    vectors: a text file of lines "word x₁ x₂ …", or None for the model's own embeddings.
    Raises ValueError for a model of another task or kind of vocabulary.
    """

    def __init__(
        self, model: Model, tokenizer: Tokenizer, *, candidates: int = 15,
        probability: float = 0.4, seed: int = 0, vectors: str | Path | None = None,
    ):  # fmt: skip
        if model.task != "fill-mask":
            raise ValueError(f"augmentation needs a model for fill-mask, not for {model.task!r}")
        if candidates < 1 or not 0 < probability <= 1:
            raise ValueError(
                f"augmentation needs 1 candidate or more and a probability in (0, 1], not "
                f"{candidates} and {probability}"
            )
        self.pieces = tokenizer.get_vocab()
        if not any(piece.startswith(PREFIX) for piece in self.pieces):
            raise ValueError(
                "augmentation needs a WordPiece vocabulary, with pieces that begin with '##', and "
                "the model has another; give a model such as BERT or DistilBERT"
            )
        self.model, self.tokenizer = model, tokenizer
        self.M, self.p, self.seed = candidates, probability, seed
        self.words = {i: w for w, i in self.pieces.items()}
        self.own = vectors is None
        self.names, self.vectors = self._own_vectors() if self.own else read_vectors(vectors)
        self.rows = {name: i for i, name in enumerate(self.names)}

    def __call__(self, text: str, copies: int, number: int = 0) -> list[str]:
        """A text  ->  the text and up to `copies` others. number: the text's place in its data;
        the same seed, number and text give the same texts."""
        encoding = self.tokenizer.encodings([text])[0]
        found = self._candidates(text, encoding)
        key = np.array([self.seed % 2**64, number % 2**64], np.uint64)
        counter = np.array([0, SITE, 0, 0], np.uint64)
        random = np.random.Generator(np.random.Philox(key=key, counter=counter))
        texts = [text]
        for _ in range(copies):
            parts, end = [], 0
            for (start, stop), candidates in found:
                word = candidates[random.integers(len(candidates))]
                chosen = word if random.random() < self.p else text[start:stop]
                parts += [text[end:start], chosen]
                end = stop
            new = "".join([*parts, text[end:]])
            if new not in texts:
                texts.append(new)
        return texts

    def pair(
        self, text: str, text_pair: str | None, copies: int, number: int = 0
    ) -> list[tuple[str, str | None]]:
        """A pair  ->  the pair, then its copies with the first side rewritten, then the second."""
        if text_pair is None:
            return [(new, None) for new in self(text, copies, 2 * number)]
        first = [(new, text_pair) for new in self(text, copies, 2 * number)]
        return first + [(text, new) for new in self(text_pair, copies, 2 * number + 1)[1:]]

    # ------------------------------------------------------- candidates

    def _candidates(self, text, encoding):
        """[((start, stop) in the text, its candidates)] of every word that may be replaced."""
        spans = {}  # of each word: the places of its tokens
        for place, word in enumerate(encoding.word_ids):
            if word is not None:
                spans.setdefault(word, []).append(place)
        found, alone = [], []
        for places in spans.values():
            start, stop = encoding.offsets[places[0]][0], encoding.offsets[places[-1]][1]
            word = text[start:stop]
            if not re.fullmatch("[A-Za-z]+", word) or word.lower() in FUNCTION_WORDS:
                continue
            found.append(((start, stop), word, places))
            if len(places) == 1:
                alone.append(places[0])
        likely = self._likely(text, alone)
        return [
            (span, likely[places[0]] if len(places) == 1 else self._near(word, places, encoding))
            for span, word, places in found
        ]

    def _likely(self, text, places):
        """{place: the top-M words there}; the model reads the masked text, then the whole text."""
        answers, tokenizer = {}, self.tokenizer
        for start in range(0, len(places), BATCH_SIZE):
            some = places[start : start + BATCH_SIZE]
            twice = tokenizer([text], [text])
            batch = {name: np.repeat(x, len(some), axis=0) for name, x in twice.items()}
            if self._cut(text, batch["input_ids"].shape[1]):  # no room for the text twice
                batch = {n: np.repeat(x, len(some), axis=0) for n, x in tokenizer([text]).items()}
            kept = batch["input_ids"][0].copy()
            batch["input_ids"][np.arange(len(some)), some] = tokenizer.mask_id
            rows = self.model.pack(*(batch.get(n) for n in INPUTS))
            at = rows.bounds[:-1] + np.array(some)
            logits = self.model.ops.place.fetch(self.model.infer(rows, at).logits)
            for place, z in zip(some, logits, strict=True):
                best = np.argsort(-z, kind="stable")[: self.M]
                words = [self.words.get(int(i), "") for i in best]
                whole = [w for w in words if w and not w.startswith(PREFIX)]
                ordinary = [w for w in whole if w not in tokenizer.names.values()]
                answers[place] = ordinary or [self.words[int(kept[place])]]
        return answers

    def _cut(self, text, length):
        """Whether text [SEP] text is longer than the model's positions."""
        once = len(self.tokenizer.content([text])[0])
        return 2 * once + 3 > length

    def _near(self, word, places, encoding):
        """The words of the largest cosine with this one; the word itself if it has no vector."""
        name = word.lower() if self.tokenizer.lowercase or word.istitle() else word
        if name in self.rows:
            vector = self.vectors[self.rows[name]]
        elif self.own:
            vector = self.table[[encoding.ids[i] for i in places]].mean(axis=0)
        else:
            return [word]
        cosine = self.vectors @ vector
        if name in self.rows:
            cosine[self.rows[name]] = -np.inf
        best = np.argsort(-cosine, kind="stable")[: self.M]
        return [self.names[i].title() if word.istitle() else self.names[i] for i in best]

    def _own_vectors(self):
        """The names of the vocabulary's whole words, and their embeddings at length 1."""
        self.table = self.model.named_by_role()["embeddings.word.weight"]
        names = [w for w in self.pieces if re.fullmatch("[A-Za-z]+", w)]
        return names, _unit(self.table[[self.pieces[w] for w in names]])


INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def read_vectors(path: str | Path) -> tuple[Sequence[str], np.ndarray]:
    """A file of lines "word x₁ x₂ …"  ->  names, vectors (words,D) of length 1."""
    names, rows = [], []
    if not Path(path).exists():
        raise MissingFileError(f"{path} is not there; name a file of word vectors")
    for place, line in islice(lines(Path(path)), LINES):
        try:
            name, *numbers = line.split()
            rows.append(np.array(numbers, np.float32))
            if not len(rows[-1]) or len(rows[-1]) != len(rows[0]):
                raise ValueError(f"{len(rows[-1])} numbers, the first line {len(rows[0])}")
        except ValueError as error:
            raise ValueError(
                f"{place} is not a word and its vector ({cut(error)}); give lines like those of "
                f"GloVe"
            ) from None
        names.append(name)
    if not names:
        raise ValueError(f"{path} holds no word; give lines like those of GloVe")
    return names, _unit(np.stack(rows))


def _unit(vectors):
    length = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    return (vectors / np.maximum(length, 1e-12)).astype(np.float32)
