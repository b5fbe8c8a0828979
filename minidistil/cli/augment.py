"""Write more examples from labelled ones: some words of each text replaced by probable others.

TinyBERT's data augmentation. The candidates for a word of one piece are the model's predictions for
the masked word; for a longer word, its nearest neighbours among the word vectors. --out becomes a
.jsonl file in which each example is followed by its copies, with the same label; `finetune` and
`distill` read it.
"""

import json
from pathlib import Path

from minidistil.cli.command_parser import add_model
from minidistil.cli.options import add_model_options
from minidistil.io import files
from minidistil.io.console import Answer, progress
from minidistil.io.counts import counted
from minidistil.io.outputs import check_file
from minidistil.model.bundled_teacher import default_teacher
from minidistil.tasks.augmentation import Augmenter
from minidistil.tasks.labelled_data import read_examples
from minidistil.tasks.load_models import load

EXAMPLE = "--data train.tsv --out train-augmented.jsonl --copies 20"


def add_options(parser):
    add_model(parser, "for fill-mask; default: weights/")
    parser.add_argument("--data", metavar="PATH", required=True, help="labelled texts or pairs")
    parser.add_argument("--out", metavar="FILE", required=True, help="a .jsonl file, not there yet")
    parser.add_argument("--text-column", metavar="NAME")
    parser.add_argument("--text-pair-column", metavar="NAME", help="the second of two texts")
    parser.add_argument("--label-column", metavar="NAME", help="default: label or labels")
    parser.add_argument("--copies", type=int, default=20, metavar="N", help="of a text (20)")
    parser.add_argument("--candidates", type=int, default=15, metavar="M", help="of a word (15)")
    parser.add_argument("--probability", type=float, default=0.4, metavar="P", help="(0.4)")
    parser.add_argument(
        "--vectors", metavar="FILE", help="word vectors as GloVe's; default: the model's own"
    )
    parser.add_argument("--seed", type=int, default=0)
    add_model_options(parser)


def run(args):
    out = Path(args.out)
    if out.exists() or out.suffix != ".jsonl":
        raise ValueError(f"--out must be a .jsonl file that is not there yet, not {out}")
    check_file(out)
    if args.copies < 1:
        raise ValueError(f"--copies must be 1 or more, not {args.copies}")
    model, tokenizer = load(args.model or default_teacher(), task="fill-mask", backend=args.backend)
    augment = Augmenter(
        model, tokenizer, candidates=args.candidates, probability=args.probability,
        seed=args.seed, vectors=args.vectors,
    )  # fmt: skip
    found, written = read_examples(args, args.data), 0
    with files.writing(out, "w") as file:
        for number, (text, text_pair, label) in enumerate(progress(found, "rewriting")):
            for first, second in augment.pair(text, text_pair, args.copies, number):
                row = {"text": first, "text_pair": second, "label": label}
                row = {name: value for name, value in row.items() if value is not None}
                file.write(json.dumps(files.jsonable(row), ensure_ascii=False) + "\n")
                written += 1
    answer = {"examples": len(found), "written": written, "out": str(out)}
    return Answer(answer, f"{counted(len(found), 'example')} became {written:,}: {out}")
