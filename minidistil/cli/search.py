"""Semantic search over the items of a file or folder, or items similar to one of them.

The vectors of the items are computed once, stored in --index, and read from there as long as
neither the items nor the model have changed. Scores are cosines, 1 for the same direction.
"""

import hashlib
from pathlib import Path

from minidistil.cli.command_parser import add_model
from minidistil.cli.options import add_inference_options
from minidistil.data import documents
from minidistil.io.console import Answer, progress, table
from minidistil.io.outputs import check_file
from minidistil.model.bundled_teacher import default_teacher
from minidistil.model.sentence.sentence_model import SENTENCES
from minidistil.tasks.pipeline import pipeline
from minidistil.tasks.sentence_embedding.search_index import INDEX, index_of

EXAMPLE = '--items movie-reviews --model sentence-transformers/all-MiniLM-L6-v2 "a film on trains"'
SHOWN = 70  # characters of an item in a line


def add_options(parser):
    parser.add_argument("queries", nargs="*", metavar="QUERY")
    parser.add_argument("--items", required=True, metavar="PATH", help="as --data of predict")
    parser.add_argument("--text-column", metavar="NAME", help="of a table or of JSON objects")
    parser.add_argument("--like", type=int, metavar="N", help="items like item N, counted from 0")
    add_model(parser, texts="queries")
    parser.add_argument("--top-k", type=int, default=5, metavar="K", help="items a query (5)")
    parser.add_argument("--index", metavar="FILE", help="default: one in runs/search")
    add_inference_options(parser)


def run(args):
    if args.top_k < 1:
        raise ValueError(f"--top-k must be 1 or more, not {args.top_k}")
    if bool(args.queries) == (args.like is not None):
        raise ValueError("give queries, or --like N for items like one of them")
    place = _place(args.items) if args.index is None else args.index
    check_file(place, *INDEX)
    texts = list(documents(args.items, field=args.text_column))
    predict = pipeline(
        SENTENCES, args.model or default_teacher(), backend=args.backend, dtype=args.dtype
    )
    index, known = index_of(
        texts, predict, place,
        lambda steps: progress(steps, "reading the items"),
    )  # fmt: skip
    if args.queries:
        prompt = predict.model.pooling.prompt_of("query")
        found = index.search(predict.encode(args.queries, prompt), args.top_k)
        asked = [{"query": query} for query in args.queries]
    else:
        found, asked = [index.like(args.like, args.top_k)], [{"like": args.like}]
    answers = [{**q, "found": some} for q, some in zip(asked, found, strict=True)]
    data = {"items": len(texts), "index_reused": known, "answers": answers}
    return Answer(data, "\n\n".join(map(_shown, answers)))


def _place(items):
    """A name for the index of these items, the same in every working directory."""
    path = Path(items).resolve() if Path(items).exists() else Path(items)
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    return Path("runs") / "search" / f"{path.stem}-{digest}.npz"


def _shown(answer):
    asked = f"item like {answer['like']}" if "like" in answer else answer["query"]
    rows = [
        (row["text"][:SHOWN], str(row["item"]), f"{row['score']:.4f}") for row in answer["found"]
    ]
    return table((asked, "item", "score"), rows)
