"""evaluate --out-of-scope: measures a classifier on its intents and on texts without intent."""

from argparse import ArgumentTypeError

from minidistil.data.batches import Batching
from minidistil.io.console import Answer
from minidistil.tasks.labelled_data import held_out_of, labels_of, reader_of_labelled
from minidistil.tasks.measuring import of_texts
from minidistil.tasks.text_classification.data import REGRESSION, SINGLE, LabelledText
from minidistil.tasks.text_classification.out_of_scope import choose_threshold, scope

CHOOSE = "choose"


def add_options(parser) -> None:
    group = parser.add_argument_group("intents (text-classification)")
    group.add_argument(
        "--out-of-scope", type=_threshold, metavar="P",
        help="answers of a smaller probability are refused; choose: the best P for --data",
    )  # fmt: skip
    group.add_argument(
        "--out-of-scope-label", default="oos", metavar="NAME", help="of texts without intent (oos)"
    )


def _threshold(text):
    if text == CHOOSE:
        return text
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"must be a probability, 0 to 1, or {CHOOSE}, not {text!r}")
    return value


def evaluate_scope(args, tokenizer, model) -> Answer:
    """The Answer of evaluate --out-of-scope. Raises ValueError for another task, and for data
    without intents or without out-of-scope texts."""
    problem_type, names = labels_of(model.config)
    if model.task != "text-classification" or problem_type != SINGLE:
        raise ValueError(
            f"--out-of-scope is for text-classification with one label for each text, not "
            f"{model.task} ({problem_type})"
        )
    read = reader_of_labelled(SINGLE, (*names, args.out_of_scope_label))
    found = held_out_of(args, read)
    outside = [x for x in found if str(x[2]).strip() == args.out_of_scope_label]
    inside = [x for x in found if str(x[2]).strip() != args.out_of_scope_label]
    if not inside or not outside:
        raise ValueError(
            f"{args.data} has {len(inside)} texts with an intent and {len(outside)} labelled "
            f"{args.out_of_scope_label!r}; give some of both, or name --out-of-scope-label"
        )
    batching = Batching(args.batch_tokens)
    options = {"max_length": args.max_length, "stride": args.stride}
    data = LabelledText([], tokenizer, batching, evaluation=inside, names=names, **options)
    inner, best, labels = _answers(model, data)
    # Label 0 of a regression is a placeholder: these texts have no class.
    nameless = [(*texts, 0) for *texts, _ in outside]
    others = LabelledText(
        [], tokenizer, batching, evaluation=nameless, problem_type=REGRESSION, **options
    )
    outer, _, _ = _answers(model, others)
    right, threshold = best == labels, args.out_of_scope
    if threshold == CHOOSE:
        threshold = choose_threshold(inner, right, outer)
    measured = {"threshold": threshold, **scope(inner, right, outer, threshold)}
    measured["in_scope_accuracy_without"] = float(right.mean())  # without refusals
    counts = {"in_scope": len(inside), "out_of_scope": len(outside)}
    lines = [f"{name:26}{value:10.4f}" for name, value in measured.items()]
    lines += [f"{name:26}{count:10,}" for name, count in counts.items()]
    return Answer({**measured, **counts}, "\n".join(lines))


def _answers(model, data):
    """The largest probability, the argmax and the label of every text, (B,) each."""
    logits, labels = of_texts(model, data.evaluation_batches())
    place = model.ops.place
    probs = place.fetch(model.ops.softmax.forward(place.send(logits))[0])  # (B,K)
    return probs.max(axis=1), probs.argmax(axis=1), labels
