"""Command-line options of text generation: beams, length penalty, repetition."""

from collections.abc import Iterable

DECODING = ("num_beams", "length_penalty", "repetition_penalty", "no_repeat_ngram_size")


def add_decoding_options(group, beams: int | str) -> None:
    """Add the options of DECODING to an argparse group; beams: the default of --num-beams, shown
    in its help."""
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
        help="no N words in a row occur twice in a text (0: any may)",
    )  # fmt: skip


def given(args, names: Iterable[str]) -> dict:
    """{name: value} of the options that were given."""
    return {name: x for name in names if (x := getattr(args, name)) is not None}
