"""Masked text of --data for the commands: a corpus in the run folder, and a length curriculum."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from minidistil.data.batches import Batching, MaskedText
from minidistil.data.corpus import Corpus, split
from minidistil.data.masking import Masking
from minidistil.data.tokenizer import Tokenizer
from minidistil.tasks.data_options import HELD_OUT_SEED, read_documents


def corpus_of(
    args, tokenizer: Tokenizer, folder: str | Path, max_length: int, resumed: bool
) -> Corpus:
    """The corpus in the run folder's data/; it is built unless a resumed run has it already."""

    def make(path):
        if resumed and path.exists():
            return Corpus.open(path)
        documents, shortest = read_documents(args, "tokenising"), min(12, max_length)
        return Corpus.build(path, documents, tokenizer, max_length=max_length, min_tokens=shortest)

    return Corpus.shared(Path(folder) / "data" / f"tokens-{max_length}.corpus", make)


def masked_text(
    args, tokenizer: Tokenizer, folder: str | Path, resumed: bool = False
) -> MaskedText:
    """MaskedText of --data; some documents are held out, all of them where held_out is None."""
    corpus = corpus_of(args, tokenizer, folder, args.max_length, resumed)
    if args.held_out is None:
        indices, held_out = np.zeros(0, np.int64), np.arange(len(corpus))
    else:
        indices, held_out = split(corpus.documents, args.held_out, HELD_OUT_SEED)
    return _masked(args, corpus, indices, tokenizer, held_out)


def _masked(args, corpus, indices, tokenizer, held_out=()):
    return MaskedText(
        corpus, indices, tokenizer, Batching(args.batch_tokens, args.seed), held_out=held_out,
        masking=Masking(args.masking), evaluation_tokens=args.eval_tokens or None,
        kept_masks=bool(getattr(args, "cache_teacher", None)),
    )  # fmt: skip


# ------------------------------------------------------- short pieces first


class Curriculum:
    """Training data that begins with short pieces of the text and continues with longer ones.

    A masked word is predicted from its neighbours. Attention starts out uniform, so in a piece of
    128 tokens a neighbour has a hundredth of the weight, and a small BERT predicts only frequent
    words for millions of tokens; in a piece of 8 the neighbours have most of the weight.
    stages: [(MaskedText of short pieces, its number of tokens)]; after them, all of `last`.
    The index of a sequence determines its stage: those of a stage follow those of the one before.
    """

    def __init__(self, stages: Sequence[tuple[MaskedText, int]], last: MaskedText):
        self.budgets = [tokens for _, tokens in stages]
        self.data = [*(data for data, _ in stages), last]
        sizes = [len(data.corpus) for data in self.data]
        self.firsts = np.cumsum([0, *sizes[:-1]])

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Epoch e is stage e, while there are stages; later epochs are the whole text."""
        stage = min(epoch, len(self.budgets))
        data, first = self.data[stage], self.firsts[stage]
        if stage == len(self.budgets):
            return [batch + first for batch in data.batches(epoch)]
        wanted, chosen = -(-self.budgets[stage] // data.batching.tokens), []
        for again in range(wanted):  # repeats the text until the stage has its tokens
            chosen += data.batches(again)
            if len(chosen) >= wanted:
                break
        return [batch + first for batch in chosen[:wanted]]

    def collate(
        self, indices: np.ndarray, *, step: int, first_sequence: int = 0
    ) -> dict[str, np.ndarray]:
        """The batch of these sequences, which are all of one stage."""
        stage = np.searchsorted(self.firsts, indices[0], side="right") - 1
        data = self.data[stage]
        return data.collate(indices - self.firsts[stage], step=step, first_sequence=first_sequence)


def stages(text: str) -> tuple[tuple[int, int], ...]:
    """ "8:1500000,32:4000000" -> ((8, 1500000), (32, 4000000)): (length, tokens) of each stage."""
    pairs = [part.split(":") for part in text.split(",")]
    return tuple((int(length), int(tokens)) for length, tokens in pairs)


def with_curriculum(
    args, data: MaskedText, tokenizer: Tokenizer, folder: str | Path, resumed: bool
) -> MaskedText | Curriculum:
    """`data` after the stages of --curriculum; the data itself without that option."""
    if not args.curriculum:
        return data
    held_out = np.unique(data.corpus.documents[data.held_out])
    early = []
    for length, tokens in args.curriculum:
        if not 3 <= length < args.max_length or tokens < 1:
            raise ValueError(
                f"--curriculum {length}:{tokens}: pieces must have 3 tokens or more and fewer than "
                f"--max-length {args.max_length}, for at least 1 token"
            )
        corpus = corpus_of(args, tokenizer, folder, length, resumed)
        indices = np.flatnonzero(~np.isin(corpus.documents, held_out))
        early.append((_masked(args, corpus, indices, tokenizer), tokens))
    return Curriculum(early, data)
