"""Semantic search: which items mean what the query means.

    score(q, i) = cos(q, vᵢ)        vᵢ: the vectors of the items, kept in one file

The vectors are computed once. The file says of which items and by which model, so that it is used
where both are still the same and made anew where one has changed.
"""

import hashlib
from pathlib import Path

import numpy as np

from minidistil.data.corpus import fingerprint
from minidistil.files import replacing
from minidistil.model.sentence import normalise
from minidistil.pipeline.predictor import TOGETHER


class Index:
    """Items and their vectors (M,C), of length 1."""

    def __init__(self, texts, vectors):
        self.texts, self.vectors = texts, normalise(vectors)[0]

    def search(self, queries, top_k=5, exclude=None):
        """queries (Q,C) vectors  ->  Q lists of {"item", "score", "text"}, the best first.

        top_k: how many, all where there are fewer. exclude: an item that is not to be found.
        """
        answers = []
        for scores in normalise(queries)[0] @ self.vectors.T:  # (M,)
            order = [i for i in np.argsort(-scores, kind="stable") if i != exclude][:top_k]
            answers.append(
                [{"item": int(i), "score": float(scores[i]), "text": self.texts[i]} for i in order]
            )
        return answers

    def like(self, item, top_k=5):
        """The items most like one of them, itself left out."""
        if not 0 <= item < len(self.texts):
            raise ValueError(f"item {item} is not among the {len(self.texts)}, counted from 0")
        return self.search(self.vectors[item : item + 1], top_k, exclude=item)[0]


def index_of(texts, predict, path=None, progress=None):
    """texts, a SentenceEmbedding  ->  Index, and whether its vectors were in the file `path`.

    progress: wraps the steps of computing them, as tqdm does. Raises ValueError without a text,
    OSError where the file cannot be written.
    """
    if not texts:
        raise ValueError("there are no items to search; give at least one")
    key = _key(texts, predict)
    if path is not None and (vectors := _stored(Path(path), key)) is not None:
        return Index(texts, vectors), True
    starts = range(0, len(texts), TOGETHER)
    prompt = predict.model.pooling.prompt_of("document")
    steps = progress(starts) if progress else starts
    vectors = np.concatenate([predict.encode(texts[i : i + TOGETHER], prompt) for i in steps])
    if path is not None:
        with replacing(path) as aside, open(aside, "wb") as file:
            np.savez(file, key=np.array(key), vectors=vectors)
    return Index(texts, vectors), False


def _key(texts, predict):
    """A digest of everything that the vectors depend on."""
    model, digest = predict.model, hashlib.sha256()
    how = (model.config, model.pooling, model.dtype, predict.tokenizer.max_length)
    digest.update(repr((how, fingerprint(predict.tokenizer), list(texts))).encode())
    for name, array in model.params.items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _stored(path, key):
    """The file's vectors, None where it is not there, no index, or another's."""
    try:
        with np.load(path) as file:
            return file["vectors"] if str(file["key"]) == key else None
    except (OSError, ValueError, KeyError):
        return None
