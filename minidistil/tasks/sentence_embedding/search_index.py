"""Semantic search: the items whose vectors are nearest to the query's.

    score(q, i) = cos(q, vᵢ)        vᵢ: the vectors of the items, stored in one file

The vectors are computed once. The file holds a digest of the items and the model; it is used while
both are unchanged, and rewritten otherwise.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from minidistil.data.corpus import fingerprint
from minidistil.io import files
from minidistil.io.npz_arrays import read_arrays
from minidistil.io.outputs import check_file
from minidistil.model.sentence.sentence_model import normalise
from minidistil.tasks.base_predictor import BATCH_SIZE
from minidistil.tasks.sentence_embedding.predictor import SentenceEmbedding

ZIP, FIRST = b"PK\x03\x04", b"key.npy"  # the file's first bytes, and those 26 bytes later
NAMES = {"key.npy", "vectors.npy"}


class Index:
    """Items and their vectors (M,C), of length 1."""

    def __init__(self, texts: Sequence[str], vectors: np.ndarray):
        self.texts, self.vectors = texts, normalise(vectors)[0]

    def search(
        self, queries: np.ndarray, top_k: int = 5, exclude: int | None = None
    ) -> list[list[dict]]:
        """queries (Q,C) vectors  ->  Q lists of {"item", "score", "text"}, the best first.

        top_k: the length of a list, at most. exclude: the number of an item to leave out.
        """
        answers = []
        for scores in normalise(queries)[0] @ self.vectors.T:  # (M,)
            order = [i for i in np.argsort(-scores, kind="stable") if i != exclude][:top_k]
            answers.append(
                [{"item": int(i), "score": float(scores[i]), "text": self.texts[i]} for i in order]
            )
        return answers

    def like(self, item: int, top_k: int = 5) -> list[dict]:
        """The items nearest to one of them, without itself."""
        if not 0 <= item < len(self.texts):
            raise ValueError(f"item {item} is not among the {len(self.texts)}, counted from 0")
        return self.search(self.vectors[item : item + 1], top_k, exclude=item)[0]


def index_of(
    texts: Sequence[str], predict: SentenceEmbedding, path: str | Path | None = None,
    progress: Callable | None = None,
) -> tuple[Index, bool]:  # fmt: skip
    """texts, a SentenceEmbedding  ->  Index, and whether its vectors were in the file `path`.

    progress: wraps the steps of computing them, as tqdm does. Raises ValueError without a text, for
    a file that is no index, which is left unchanged, and for a damaged index; OSError if the file
    cannot be written.
    """
    if not texts:
        raise ValueError("there are no items to search; give at least one")
    if path is not None:
        check_file(path, *INDEX)
    key = _key(texts, predict)
    if path is not None and (vectors := _stored(Path(path), key)) is not None:
        return Index(texts, vectors), True
    starts = range(0, len(texts), BATCH_SIZE)
    prompt = predict.model.pooling.prompt_of("document")
    steps = progress(starts) if progress else starts
    vectors = np.concatenate([predict.encode(texts[i : i + BATCH_SIZE], prompt) for i in steps])
    if path is not None:
        files.write_arrays(path, key=np.array(key), vectors=vectors)
    return Index(texts, vectors), False


def _key(texts, predict):
    """A digest of all inputs of the vectors."""
    model, digest = predict.model, hashlib.sha256()
    tokenizer = predict.tokenizer
    how = (model.config, model.pooling, model.dtype, tokenizer.max_length, tokenizer.rules)
    digest.update(repr((how, fingerprint(tokenizer), list(texts))).encode())
    for name, array in model.params.items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def is_index(path: str | Path) -> bool:
    """Whether a file has the format of `index_of`: a zip whose first array is the key."""
    with open(path, "rb") as file:
        begin = file.read(30 + len(FIRST))
    return begin.startswith(ZIP) and begin.endswith(FIRST)


INDEX = "an index of search", is_index  # the kind of file that may be replaced


def _stored(path, key):
    """The file's vectors; None if there is no file, or another key. The zip's checksums are
    verified."""
    if not path.exists() or not path.stat().st_size:
        return None
    try:
        found = read_arrays(path, ("key", "vectors"))
        with zipfile.ZipFile(path) as file:
            if file.testzip() is not None or set(file.namelist()) != NAMES:
                raise ValueError("it holds something else than its checksums say")
        return found["vectors"] if str(found["key"]) == key else None
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} is a damaged index ({error}); delete it, and the vectors are computed again"
        ) from None
