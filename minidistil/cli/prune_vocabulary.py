"""A smaller model of the same sentences: only the pieces that some texts use keep a word vector.

Word vectors are a large part of a small model, and the texts of one task use few of them. Special
tokens and single letters always stay, then the pieces that occur most often in --data, up to
--pieces. A word whose piece is gone is cut into smaller ones; every other text gives the same
numbers as before. --out is a Hugging Face folder with its tokenizer and a report.json.
"""

from pathlib import Path

from minidistil.cli.command_parser import add_model
from minidistil.cli.options import add_model_options, add_store_option
from minidistil.data.fewer_pieces import most_used, piece_counts, with_pieces
from minidistil.data.file_rows import kind_of
from minidistil.data.sources import documents, examples, files_of
from minidistil.data.tokenizer_files import load_tokenizer
from minidistil.io.console import Answer, progress, table
from minidistil.io.files import replacing, write_json
from minidistil.io.outputs import check_folder
from minidistil.model.bundled_teacher import default_teacher
from minidistil.model.fewer_words import with_words
from minidistil.model.pretrained import from_pretrained, resolve, task_in

EXAMPLE = "--model all-MiniLM-L6-v2 --data SST-2/train.tsv --out runs/fewer-words"


def add_options(parser):
    add_model(parser)
    parser.add_argument(
        "--data", metavar="PATH", action="append", required=True,
        help="texts; of a table, the text and its pair; may be given again",
    )  # fmt: skip
    parser.add_argument(
        "--text-column", metavar="NAME", action="append", help="may be given again; default: text"
    )
    parser.add_argument("--pieces", type=int, metavar="N", default=8000, help="at most (8000)")
    parser.add_argument(
        "--out", metavar="DIR", required=True, help="a folder that is not there yet"
    )
    add_store_option(parser)
    add_model_options(parser)


def run(args):
    folder, out = resolve(args.model or default_teacher()), Path(args.out)
    check_folder(out)
    model = from_pretrained(folder, task=task_in(folder), backend=args.backend)
    if model.dtype == "int8":
        raise ValueError(f"{folder} is quantised; remove words first, then quantise")
    tokenizer = load_tokenizer(folder)
    before = piece_counts(tokenizer, progress(_texts(args.data, args.text_column), "counting"))
    kept = most_used(tokenizer, before, args.pieces)
    small, tokenizer = with_words(model, kept), with_pieces(tokenizer, kept)
    after = piece_counts(tokenizer, progress(_texts(args.data, args.text_column), "counting"))
    found = {
        "model": str(folder), "out": str(out),
        "pieces": {"before": len(before), "after": len(kept)},
        "parameters": {"before": _size(model), "after": _size(small)},
        "tokens of the texts": {"before": int(before.sum()), "after": int(after.sum())},
        "kept": float(before[kept].sum() / before.sum()),
    }  # fmt: skip
    with replacing(out) as aside:
        small.save_pretrained(aside, args.store)
        tokenizer.save(aside)
        write_json(aside / "report.json", found)
    return Answer(found, _text(found))


def _texts(sources, columns):
    """The texts of all files: of a table the named columns, or a text and its pair."""
    for source in sources:
        plain = all(kind_of(path) == ".txt" for path in files_of(source))
        if columns or plain:
            for column in columns or [None]:
                yield from documents(source, field=column)
        else:
            for text, pair, _ in examples(source):
                yield from (text, pair) if pair else (text,)


def _size(model):
    return sum(p.size for p in model.params.values())


def _text(found):
    rows = [
        (name, *(f"{found[name][when]:,}" for when in ("before", "after")))
        for name in ("pieces", "parameters", "tokens of the texts")
    ]
    return (
        f"{table(('', 'before', 'after'), rows)}\n\n"
        f"{found['kept']:.2%} of the texts' tokens are pieces that stay\n"
        f"model and report: {found['out']}"
    )
