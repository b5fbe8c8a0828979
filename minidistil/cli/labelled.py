"""From --data to what a classifier is trained on or distilled on."""

import numpy as np

from minidistil.cli.common import progress
from minidistil.cli.text import HELD_OUT_SEED
from minidistil.data import LabelledText, examples, label_names, split
from minidistil.data.labelled import PROBLEMS, REGRESSION, SINGLE


def add_label_options(parser):
    group = parser.add_argument_group("labelled text (text-classification)")
    group.add_argument("--text-pair-column", metavar="NAME", help="the second of two texts")
    group.add_argument("--label-column", metavar="NAME", help="default: label")
    group.add_argument("--problem-type", metavar="P", help=f"{', '.join(PROBLEMS)}")


def read_examples(args, data):
    """A list of (text, text_pair or None, label or None)."""
    columns = {"text": args.text_column, "text_pair": args.text_pair_column,
               "label": args.label_column}  # fmt: skip
    return list(progress(examples(data, **columns), "reading", unit=" texts"))


def in_two(found, held_out):
    """Examples  ->  those to train on, those held out."""
    kept, out = split(np.arange(len(found)), held_out, HELD_OUT_SEED)
    return [found[i] for i in kept], [found[i] for i in out]


def names_for(labels, problem_type, known):
    """The labels' names; a model's own, in its order, where it knows all of them."""
    if problem_type == REGRESSION:
        return ()
    names = label_names(labels, problem_type)
    return known if set(names) <= set(known or ()) else names


class Unlabelled(LabelledText):
    """Texts without labels, for a student that learns from its teacher alone."""

    def __init__(self, found, tokenizer, *, evaluation=(), **options):
        blank, held_out = ([(*texts, 0) for *texts, _ in part] for part in (found, evaluation))
        super().__init__(blank, tokenizer, evaluation=held_out, problem_type=REGRESSION, **options)

    def collate(self, indices, *, step=0, first_sequence=0):
        batch = super().collate(indices)
        del batch["labels"]
        return batch


def labelled_text(args, tokenizer, model, training, evaluation, labelled=True):
    """The examples as data for this classifier, whose config names its labels."""
    options = {"tokens": args.batch_tokens, "seed": args.seed, "max_length": args.max_length,
               "evaluation": evaluation}  # fmt: skip
    if not labelled:
        return Unlabelled(training, tokenizer, **options)
    config = model.config
    names = config.id2label or tuple(str(k) for k in range(config.num_labels))
    return LabelledText(
        training, tokenizer, problem_type=config.problem_type or SINGLE, names=names, **options
    )
