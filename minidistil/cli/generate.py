"""Continue texts with a decoder (GPT-2, DistilGPT2), token by token as they are generated."""

from minidistil.cli.command_parser import add_model
from minidistil.cli.options import add_inference_options
from minidistil.io.console import Answer
from minidistil.tasks.decoding_options import DECODING, add_decoding_options, given
from minidistil.tasks.pipeline import pipeline

EXAMPLE = '"The meaning of life is" --model distilgpt2 --temperature 0.8 --top-p 0.95'


def add_options(parser):
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="what is continued")
    add_model(parser, "or a name on the hub", texts="texts", required=True)
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="at most (50)")
    parser.add_argument(
        "--temperature", type=float, metavar="X",
        help="of sampling; 0: always the most probable word (0, or as generation_config.json says)",
    )  # fmt: skip
    parser.add_argument("--top-k", type=int, metavar="K", help="sample from the K most probable")
    parser.add_argument(
        "--top-p", type=float, metavar="P", help="sample from the most probable that make up P"
    )
    add_decoding_options(parser, 1)
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    add_inference_options(parser)


def run(args):
    predict = pipeline("text-generation", args.model, backend=args.backend, dtype=args.dtype)
    names = ("max_new_tokens", "temperature", "top_k", "top_p", "seed", *DECODING)
    options = given(args, names)
    searches = options.get("num_beams", predict.model.generation.num_beams or 1) > 1
    if args.json or searches:  # the best beam is known at the end only
        answers = predict(args.texts, **options)
        text = "\n".join(answer[0]["generated_text"] for answer in answers)
        return Answer(answers[0] if len(answers) == 1 else answers, text)
    for text in args.texts:
        print(text, end="", flush=True)
        for piece in predict.pieces(text, **options):
            print(piece, end="", flush=True)
        print()
    return Answer(None, "")
