"""Continue texts with a decoder (GPT-2, DistilGPT2), word by word as they are found.

What no option says is as the folder's generation_config.json says.
"""

from minidistil.cli.common import Answer, add_inference_options
from minidistil.pipeline import pipeline

EXAMPLE = '"The meaning of life is" --model distilgpt2 --temperature 0.8 --top-p 0.95'


def add_options(parser):
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="what is continued")
    parser.add_argument("--model", metavar="FOLDER", required=True, help="or a name on the hub")
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="at most (50)")
    parser.add_argument("--temperature", type=float, help="0 (default): always the likeliest word")
    parser.add_argument("--top-k", type=int, metavar="K", help="of the K likeliest only")
    parser.add_argument("--top-p", type=float, metavar="P", help="of the likeliest that make P")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    add_inference_options(parser)


def run(args):
    predict = pipeline("text-generation", args.model, backend=args.backend, dtype=args.dtype)
    names = ("max_new_tokens", "temperature", "top_k", "top_p", "seed")
    options = {n: x for n in names if (x := getattr(args, n)) is not None}
    if args.json:
        answers = predict(args.texts, **options)
        return Answer(answers[0] if len(answers) == 1 else answers, "")
    for text in args.texts:
        print(text, end="", flush=True)
        for piece in predict.pieces(text, **options):
            print(piece, end="", flush=True)
        print()
    return Answer(None, "")
