"""A tokenised corpus in one memory-mapped file, which may be larger than memory.

    header     128 bytes, little-endian: see HEADER
    ids        (tokens,) uint16, or uint32 where the vocabulary has more than 65,536 words
    padding    zeros to a multiple of 8 bytes
    offsets    (M+1,) int64; sequence i is ids[offsets[i]:offsets[i+1]], [CLS] and [SEP] included
    documents  (M,) int64, the number of the document that sequence i was cut from
    counts     (V,) int64, how often each id occurs, [CLS] and [SEP] included

A document longer than max_length is cut into pieces of max_length−2 tokens that each get their own
[CLS] and [SEP]. As in DistilBERT's own preparation, sequences of 11 tokens or fewer and those with
at least half [UNK] are dropped. Without a max_length, for decoders (`next_words`), a sequence is a
whole document followed by [SEP].
"""

import struct
import zlib
from array import array
from collections.abc import Callable, Iterable
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import numpy as np

from minidistil.data.tokenizer import Tokenizer
from minidistil.io import files
from minidistil.io.ranks import world

MAGIC = b"MINIDCRP"
VERSION = 2
# magic, version, bytes an id, vocab_size, max_length, sequences, tokens, CLS, SEP, PAD, UNK, MASK,
# fingerprint of the tokenizer, checksum of the ids with their padding, checksum of the header so
# far and of what follows the padding
HEADER = struct.Struct("<8s4I2Q5I16s2I12x")
SIZE = 128
ABSENT = 2**32 - 1  # the id of a special token that the vocabulary does not have
DOCUMENTS = 256  # tokenised at once


class Corpus:
    """An open corpus: len, [i] -> ids (T,), .lengths (M,), .documents (M,), .counts (V,), .tokens.

    Also .vocab_size, .max_length, .fingerprint, and cls_id, sep_id, pad_id, unk_id, mask_id.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise files.MissingFileError(f"{path} is no file; build a corpus from text first")
        with open(self.path, "rb") as file:
            head = file.read(SIZE)
        size = self.path.stat().st_size
        if len(head) < SIZE or not head.startswith(MAGIC):
            raise ValueError(f"{path} is not a tokenised corpus of minidistil; build one from text")
        _, version, width, V, self.max_length, M, tokens, *ids, self.fingerprint, of_ids, rest = (
            HEADER.unpack_from(head)
        )
        if version != VERSION:
            raise ValueError(f"{path} has version {version}, this is for {VERSION}; build it again")
        after = _aligned(SIZE + tokens * width)
        wanted = after + 8 * (M + 1 + M + V)
        if width not in (2, 4) or size != wanted:
            raise ValueError(
                f"{path} has {size} bytes where its header says {wanted}; it is damaged, "
                "build it again"
            )
        self.vocab_size, self.tokens = V, tokens
        self.cls_id, self.sep_id, self.pad_id, self.unk_id, self.mask_id = ids
        self.ids = np.memmap(self.path, f"<u{width}", "r", SIZE, (tokens,))
        tail = np.memmap(self.path, "<i8", "r", after)
        front = np.memmap(self.path, np.uint8, "r", SIZE, (after - SIZE,))
        sums = zlib.crc32(front), zlib.crc32(tail, zlib.crc32(_checked(head)))
        if sums != (of_ids, rest) or any(head[HEADER.size - 12 :]):
            raise ValueError(f"{path} fails its checksum; it is damaged, build it again")
        self.offsets, self.documents, self.counts = np.split(tail, [M + 1, M + 1 + M])
        self.lengths = np.diff(self.offsets)

    @classmethod
    def open(cls, path: str | Path) -> "Corpus":
        """Open a corpus. Raises MissingFileError, or ValueError for a damaged or another file."""
        return cls(path)

    @classmethod
    def build(
        cls, path: str | Path, documents: Iterable[str], tokenizer: Tokenizer, *,
        max_length: int | None, min_tokens: int = 12,
        progress: Callable[[int, int], None] | None = None,
    ) -> "Corpus":  # fmt: skip
        """Tokenise an iterable of texts into the file path and open it.

        progress(documents, tokens) is called after every 256 documents with the totals so far. The
        file is written beside path and renamed at the end, so that an error leaves no file.
        max_length None: whole documents, of any length.
        Raises ValueError when no sequence is long enough, and what documents raises.
        """
        if max_length and not 3 <= min_tokens <= max_length <= tokenizer.max_length:
            raise ValueError(
                f"a sequence needs 3 <= min_tokens {min_tokens} <= max_length {max_length} <= the "
                f"tokenizer's {tokenizer.max_length}; choose lengths in that order"
            )
        with files.writing(path) as file:
            _write(file, documents, tokenizer, max_length, min_tokens, progress)
        return cls(path)

    @classmethod
    def shared(cls, path: str | Path, make: Callable[[Path], "Corpus"]) -> "Corpus":
        """make(path), a corpus opened or built there; under MPI by rank 0, whose file all open."""
        ranks = world()
        path = ranks.first(lambda: Path(path))
        corpus = make(path) if ranks.rank == 0 else None
        ranks.wait()
        corpus = corpus or cls(path)
        ranks.wait()  # the file may be removed now
        return corpus

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, i: int) -> np.ndarray:
        """Sequence i: ids (T,) int64."""
        if not 0 <= i < len(self):
            raise IndexError(f"sequence {i} is not one of the corpus's {len(self)}")
        return self.ids[self.offsets[i] : self.offsets[i + 1]].astype(np.int64)


def held_out(corpus: Corpus, part: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Split by whole documents  ->  (training indices, held-out indices), both sorted int64.

    A document's pieces share words and names, so a piece held out from a document that is
    trained on would be too easy. See `split` for part and seed.
    """
    return split(corpus.documents, part, seed)


def split(documents: np.ndarray, part: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """documents (M,) numbers  ->  (indices of those kept, indices of those held out).

    part: a share below 1, or a number of documents. A document is held out when the hash of its
    number and the seed is among the smallest, which does not depend on the documents' order.
    """
    numbers = np.unique(documents)
    wanted = round(part * len(numbers)) if isinstance(part, float) else int(part)
    wanted = max(wanted, 1) if part > 0 else wanted
    if not 0 < wanted < len(numbers):
        raise ValueError(
            f"cannot hold out {part} of {len(numbers)} documents: at least one must be held out "
            "and one left; choose another part, or give more documents"
        )
    chosen = numbers[np.argsort(_hash(numbers, seed), kind="stable")[:wanted]]
    out = np.isin(documents, chosen)
    return np.flatnonzero(~out), np.flatnonzero(out)


def fingerprint(tokenizer: Tokenizer) -> bytes:
    """A digest of the vocabulary, 16 bytes."""
    words = sorted(tokenizer.get_vocab().items(), key=lambda word: word[1])
    return blake2b(repr(words).encode(), digest_size=16).digest()


def _hash(numbers, seed):
    """splitmix64: numbers (M,) and a seed  ->  hashes (M,) uint64."""
    z = numbers.astype(np.uint64) + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    return z ^ (z >> np.uint64(31))


# ------------------------------------------------------- building


def _write(file, documents, tokenizer, max_length, min_tokens, progress):
    V = tokenizer.vocab_size
    dtype = np.dtype("<u2" if V <= 2**16 else "<u4")
    counts, lengths, owners = np.zeros(V, np.int64), array("i"), array("q")
    file.write(bytes(SIZE))
    done = tokens = of_ids = 0
    stream = iter(documents)
    while texts := list(islice(stream, DOCUMENTS)):
        batch = []
        for number, content in enumerate(tokenizer.content(texts), done):
            for ids in _sequences(content, tokenizer, max_length, min_tokens):
                batch.extend(ids)
                lengths.append(len(ids))
                owners.append(number)
        ids = np.array(batch, dtype)
        counts += np.bincount(ids, minlength=V)
        file.write(ids.tobytes())
        of_ids = zlib.crc32(ids, of_ids)
        done, tokens = done + len(texts), tokens + len(ids)
        if progress is not None:
            progress(done, tokens)
    if not lengths:
        raise ValueError(
            f"none of {done} documents gives a sequence of {min_tokens} tokens that is less than "
            "half [UNK]; give longer texts or the tokenizer of their language"
        )
    offsets = np.concatenate([[0], np.cumsum(np.array(lengths, np.int64))])
    tail = np.concatenate([offsets, np.array(owners, np.int64), counts]).astype("<i8")
    end = SIZE + tokens * dtype.itemsize
    padding = bytes(_aligned(end) - end)
    file.write(padding)
    of_ids = zlib.crc32(padding, of_ids)
    file.write(tail)
    special = (tokenizer.ids.get(role, ABSENT) for role in ("cls", "sep", "pad", "unk", "mask"))
    fields = (MAGIC, VERSION, dtype.itemsize, V, max_length or 0, len(lengths), tokens, *special,
              fingerprint(tokenizer), of_ids)  # fmt: skip
    of_rest = zlib.crc32(tail, zlib.crc32(_checked(HEADER.pack(*fields, 0))))
    file.seek(0)
    file.write(HEADER.pack(*fields, of_rest))


def _sequences(content, tokenizer, max_length, min_tokens):
    """A document's ids  ->  its sequences."""
    if max_length is None:
        return [[*content, tokenizer.sep_id]] if content else []
    pieces = _pieces(content, tokenizer, max_length)
    return [ids for ids in pieces if _usable(ids, tokenizer, min_tokens)]


def _pieces(content, tokenizer, max_length):
    room = max_length - 2
    for start in range(0, len(content), room):
        yield [tokenizer.cls_id, *content[start : start + room], tokenizer.sep_id]


def _usable(ids, tokenizer, min_tokens):
    return len(ids) >= min_tokens and 2 * ids.count(tokenizer.unk_id) < len(ids)


def _checked(head):
    """The header's bytes before its checksum."""
    return head[: HEADER.size - 16]


def _aligned(size):
    return -(-size // 8) * 8
