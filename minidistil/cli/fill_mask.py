"""The most probable words for each [MASK] of a text."""

from minidistil.cli.command_parser import add_model
from minidistil.cli.options import add_inference_options
from minidistil.io.console import Answer, table
from minidistil.model.bundled_teacher import default_teacher
from minidistil.tasks.pipeline import pipeline

EXAMPLE = '"The movie was [MASK]."'


def add_options(parser):
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="with at least one [MASK]")
    add_model(parser, texts="texts")
    parser.add_argument("--top-k", type=int, default=5, metavar="K", help="words a mask (5)")
    add_inference_options(parser)


def run(args):
    predict = pipeline(
        "fill-mask", args.model or default_teacher(), backend=args.backend, dtype=args.dtype
    )
    answers = [predict(text, top_k=args.top_k) for text in args.texts]
    groups = []
    for answer in answers:
        for words in [answer] if isinstance(answer[0], dict) else answer:
            rows = [(w["token_str"], f"{w['score']:.4f}", f"  {w['sequence']}") for w in words]
            groups.append(table(("word", "p", ""), rows))
    return Answer(answers[0] if len(answers) == 1 else answers, "\n\n".join(groups))
