"""Answers of a model for texts, given as arguments, in --data, or line by line on stdin; or for the
images of --data, an .npz file or scikit-learn's digits.

The answers have the form of transformers' pipelines; --json prints them as they are, in one list,
and --lines prints one JSON line for each item, in order, as soon as it is computed. With --lines an
invalid item does not stop the others: it has no line, stderr gives its line number (from 1) and the
error, and the exit code is 2 after the others are printed.

A line of stdin or an argument that begins with { is a JSON object, as are those of a .jsonl file:
{"text", "text_pair"}, {"question", "context"}, {"question", "choices"}, {"document": [sentences]}.
Questions may also come in SQuAD's format, in a .json file.
"""

import inspect
import json

from minidistil import tasks
from minidistil.cli.command_parser import add_model
from minidistil.cli.options import add_inference_options
from minidistil.cli.predict_items import chunks_of
from minidistil.cli.predict_lines import answer_lines
from minidistil.config import read_config
from minidistil.config.vit import VISION
from minidistil.data.file_rows import strict
from minidistil.io.console import Answer, progress
from minidistil.io.counts import counted
from minidistil.model.bundled_teacher import default_teacher
from minidistil.model.checkpoint import CONFIG
from minidistil.model.heads import heads_of, logits_head, tasks_of
from minidistil.model.pretrained import resolve, task_in
from minidistil.model.vision.vision_encoder import IMAGES
from minidistil.tasks.base_predictor import BATCH_SIZE
from minidistil.tasks.decoding_options import DECODING, add_decoding_options
from minidistil.tasks.extractive_summarization.command import add_choice_options
from minidistil.tasks.pipeline import pipeline
from minidistil.tasks.question_answering.command import add_answer_options
from minidistil.tasks.token_classification.predictor import STRATEGIES

OPTIONS = {  # the predictors' names of options
    **{name: (name,) for name in ("top_k", "aggregation_strategy", "out_of_scope", "sentences",
                               "trigram_blocking", "max_new_tokens", "align_to_words",
                               "prompt_name", *DECODING)},
    "max_length": ("max_length", "max_seq_len", "max_source_length"),
    "stride": ("stride", "doc_stride"),
    "longest_answer": ("max_answer_len",), "no_answer": ("handle_impossible_answer",),
}  # fmt: skip
EXAMPLE = '--task feature-extraction --json "A film about trains."'


def add_options(parser):
    parser.add_argument("texts", nargs="*", metavar="TEXT")
    add_model(parser, texts="texts")
    parser.add_argument("--task", help=f"{', '.join(tasks.TASKS)}; default: the model's")
    parser.add_argument("--data", metavar="PATH", help="a file or folder of texts; images: .npz")
    parser.add_argument("--text-column", metavar="NAME", help="of a table or of JSON objects")
    parser.add_argument(
        "--text-pair-column", metavar="NAME", help="text-classification: the second"
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="answers a text")
    parser.add_argument(
        "--aggregation-strategy", metavar="S",
        help=f"token-classification, what becomes an entity: {', '.join(STRATEGIES)} (none); first "
        "gives a word the tag of its first piece",
    )  # fmt: skip
    parser.add_argument(
        "--out-of-scope", type=float, metavar="P",
        help="text-classification: texts whose best label is less probable are out of scope",
    )  # fmt: skip
    parser.add_argument(
        "--prompt-name", metavar="NAME",
        help="sentence-embedding: which of the folder's prompts stands before a text",
    )  # fmt: skip
    add_choice_options(parser)
    add_answer_options(parser)
    group = parser.add_argument_group("long texts")
    group.add_argument(
        "--max-length", type=int, metavar="T",
        help="tokens that are read at once (of question-answering 384, else what the model reads)",
    )  # fmt: skip
    tasks.add_stride(group)
    group = parser.add_argument_group("generated text (text-generation, translation, …)")
    group.add_argument("--max-new-tokens", type=int, metavar="N", help="at most")
    add_decoding_options(group, "4, of a text-generation 1")
    parser.add_argument(
        "--lines", action="store_true", help="one JSON line an answer; invalid items are skipped"
    )
    add_inference_options(parser)


def run(args):
    folder = resolve(args.model or default_teacher())
    task = args.task or task_in(folder)
    if args.top_k is not None and args.top_k < 1:
        raise ValueError(f"--top-k must be 1 or more, not {args.top_k}")
    if args.lines and args.texts:
        raise ValueError("--lines reads --data or stdin; give no texts as arguments")
    chunks = chunks_of(args, task)
    _check_head(args, folder, task)
    items = None if args.lines else [one for chunk in chunks for one in strict(chunk)]
    predict = pipeline(task, folder, backend=args.backend, dtype=args.dtype)
    if task == "fill-mask" and args.task is None and items:
        _check_masks(items, predict.tokenizer.names["mask"], args.model or "the default model")
    options = _options(args, task, predict)

    def ask(some):
        return _answers(predict, some, task, options)

    if args.lines:
        return answer_lines(predict, ask, chunks)
    answers = []
    kind = "image" if task == IMAGES else "text"
    for start in progress(range(0, len(items), BATCH_SIZE), "predicting"):
        predict.called = lambda number, start=start: f"{kind} {start + number}"
        answers.extend(ask([item for _, item in items[start : start + BATCH_SIZE]]))
    describe = tasks.command_of(task).describe if task in tasks.TRAINED else _described
    given = [place if kind == "image" else _shown(item) for place, item in items]
    lines = [f"{describe(answer)}\t{x}" for x, answer in zip(given, answers, strict=True)]
    return Answer(answers, "\n".join(lines))


def _check_head(args, folder, task):
    """Raise ValueError where --task needs a head that the folder lacks: its answers would be those
    of random weights."""
    config = read_config(folder / CONFIG)
    if args.task is None or config.model_type in VISION or task not in tasks_of(config):
        return
    own, head = task_in(folder), logits_head(config, task)
    if head is not None and head not in heads_of(config, own):
        raise ValueError(
            f"{args.model or 'the default model'} has no {task} head, its task is {own}; train one "
            f"with minidistil finetune --task {task}, or leave --task out"
        )


def _check_masks(items, mask, model):
    """Raise ValueError for a text without a mask: a masked language model has no other answer."""
    for place, text in items:
        if mask not in str(text):
            raise ValueError(
                f"{model} has no classifier: it is a masked language model, which fills {mask}, "
                f"and {place} has none; put one where a word is missing (minidistil fill-mask), or "
                f"train a classifier with minidistil finetune"
            )


def _answers(predict, some, task, options):
    """One answer an item: fill-mask's predictor drops the list around a single one."""
    given = predict(some, **options)
    return [given] if task == "fill-mask" and len(some) == 1 else given


def _shown(item):
    return item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)


def _options(args, task, predict):
    """The options that were given, if this task's predictor takes them."""
    given = {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}
    takes, found = inspect.signature(predict).parameters, {}
    for name, value in given.items():
        own = next((one for one in OPTIONS[name] if one in takes), None)
        if own is None:
            raise ValueError(f"--{name.replace('_', '-')} is not for {task}; leave it out")
        found[own] = value
    return found


def _described(answer):
    """An answer of a task without a command of its own: a text, or the vectors of its tokens."""
    if isinstance(answer, dict):
        return answer["generated_text"]
    return f"{counted(len(answer[0]), 'vector')} of {len(answer[0][0])}"
