"""Options of how a model writes, by the names of the predictors and of `generate`."""

WRITING = ("num_beams", "length_penalty", "repetition_penalty", "no_repeat_ngram_size")


def add_writing_options(group, beams):
    """beams: what --num-beams is where neither it nor the model's folder says."""
    group.add_argument(
        "--num-beams", type=int, metavar="K",
        help=f"texts that a search continues together; 1: greedy ({beams}); without this option "
        f"and the next ones the model's generation_config.json decides, where there is one",
    )  # fmt: skip
    group.add_argument(
        "--length-penalty", type=float, metavar="X",
        help="a beam's score is its log-probability over the number of words to the power X (1)",
    )  # fmt: skip
    group.add_argument(
        "--repetition-penalty", type=float, metavar="X",
        help="above 1: words that the text holds become less probable (1)",
    )  # fmt: skip
    group.add_argument(
        "--no-repeat-ngram-size", type=int, metavar="N",
        help="no N words in a row stand in a text twice (0: any may)",
    )  # fmt: skip


def given(args, names):
    """{name: value} of the options that were given."""
    return {name: x for name in names if (x := getattr(args, name)) is not None}
