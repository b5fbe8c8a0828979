"""Compare what two models say at each word of a text, as a page with sliders.

For each word the page shows the probabilities of teacher and student, the distillation loss and its
gradient with respect to the student's logits, and moves them as temperature, weights and the
direction of KL change. A masked language model reads the text with each word hidden in turn, or
with the [MASK] that the text has; GPT-2 predicts each word from those before it; a classifier
answers for the whole text, or for each word. The page is one file that needs no network.
"""

import dataclasses
from pathlib import Path

from minidistil.cli.compare.compare_page import (
    NAME,
    READS,
    READS_IN_TRAINING,
    TITLE,
    Compared,
    Start,
    page_bytes,
    start_of,
)
from minidistil.cli.compare.compare_places import (
    CLASSES,
    TAGS,
    TASKS,
    compared,
    naming,
    of_batches,
    of_texts,
    read_twice,
)
from minidistil.cli.html_page import is_page
from minidistil.cli.options import add_inference_options
from minidistil.data.label_values import SINGLE
from minidistil.data.preprocessor import same_preprocessing
from minidistil.data.two_tokenizers import reads_twice
from minidistil.distill import DistillConfig
from minidistil.distill.student import OF_TEXTS, check_pair
from minidistil.io import files
from minidistil.io.console import Answer
from minidistil.io.counts import counted
from minidistil.io.limits import few
from minidistil.io.outputs import check_file
from minidistil.tasks.load_models import load

EXAMPLE = 'weights runs/distill --text "The movie was great and the actors were wonderful."'
RUN = "run.json"


def add_options(parser):
    parser.add_argument("teacher", metavar="TEACHER", help="a folder, or a name on the hub")
    parser.add_argument("student", metavar="STUDENT", help="the same")
    parser.add_argument("--text", nargs="+", metavar="TEXT", required=True, help="what they read")
    parser.add_argument(
        "--label", nargs="+", metavar="NAME", help="of a classifier, the right class of each text"
    )
    parser.add_argument("--task", help="default: what the teacher's config says")
    parser.add_argument("--out", metavar="FILE", default=NAME, help=f"({NAME})")
    add_inference_options(parser)


def run(args):
    out = Path(args.out)
    check_file(out, "a page of compare", lambda path: is_page(path, TITLE))
    how = {"backend": args.backend, "dtype": args.dtype}
    teacher, theirs = load(args.teacher, task=args.task, **how)
    student, own = load(args.student, task=args.task, **how)
    two = not same_preprocessing(own, theirs)
    check_pair(student, teacher, hidden=False, own_words=two)
    if why := _not_comparable(student, teacher, two):
        raise ValueError(why)
    pieces, asked = of_texts(teacher.task, own, args.text, _labels(args, teacher))
    if two:
        asked = [one._replace(batch=read_twice(one.batch, theirs([text])))
                 for one, text in zip(asked, args.text, strict=True)]  # fmt: skip
    places = compared(student, teacher, asked)
    found = Compared(teacher.task, args.teacher, args.student, pieces, places,
                     naming(teacher, own), READS[teacher.task])  # fmt: skip
    files.write_bytes(out, page_bytes(found, _start(teacher.task, Path(args.student))))
    return Answer({"out": str(out), "places": len(places)},
                  f"{counted(len(places), 'place')} compared: {out}")  # fmt: skip


def write_page_of_run(folder, pair, tokenizer, batches, losses):
    """Write the page of a run's student and teacher on the first held-out texts, in its folder.

    pair: both models; losses: the run's DistillConfig. Nothing is written for models whose answers
    are not compared, and where no text has a place.
    """
    student, teacher = pair
    if _not_comparable(student, teacher, any(map(reads_twice, batches))):
        return
    pieces, asked = of_batches(student, tokenizer, batches)
    if asked:
        places, task = compared(student, teacher, asked), teacher.task
        found = Compared(task, "teacher", "student", pieces, places,
                         naming(teacher, tokenizer), READS_IN_TRAINING[task])  # fmt: skip
        page = page_bytes(found, start_of(task, losses))
        files.write_bytes(Path(folder) / NAME, page)


def _not_comparable(student, teacher, two):
    """Why the answers of two models are no probabilities of the same things; "" if they are."""
    if teacher.task not in TASKS:
        return (
            f"two models are compared in {', '.join(TASKS)}, not in {teacher.task!r}; give models "
            f"for one of these tasks, or --task"
        )
    if two and teacher.task not in OF_TEXTS:
        return (
            "teacher and student have different tokenizers, and are compared word by word; give "
            "models that share one"
        )
    ours, theirs = (model.config.id2label for model in (student, teacher))
    if teacher.task in (CLASSES, TAGS) and ours and theirs and tuple(ours) != tuple(theirs):
        return (
            f"the classes of the student, {few(ours)}, are not the teacher's, {few(theirs)}; give "
            f"models with the same classes in the same order"
        )
    for model in (student, teacher):
        kind, K = model.config.problem_type, model.config.num_labels
        if teacher.task == CLASSES and (kind not in (None, SINGLE) or K < 2):
            return (
                f"KL compares probabilities of classes of which one is right, and a model has "
                f"problem_type {kind} with {counted(K, 'class')}; give models with one class a text"
            )
    return ""


def _labels(args, teacher):
    """The numbers of the classes that --label names, None without."""
    if args.label is None:
        return None
    if teacher.task != CLASSES:
        raise ValueError(
            f"--label is for {CLASSES}; in {teacher.task} the text holds the right answers: leave "
            f"it out"
        )
    if len(args.label) != len(args.text):
        raise ValueError(f"{len(args.label)} labels for {len(args.text)} texts; give one to each")
    name = naming(teacher, None)
    numbers = {name(k): k for k in range(teacher.config.num_labels)}
    if unknown := [label for label in args.label if label not in numbers]:
        raise ValueError(f"--label {unknown[0]!r} is no class; choose {few(numbers)}")
    return [numbers[label] for label in args.label]


def _start(task, folder):
    """The temperature and weights of the student's run, where its folder holds one."""
    if not (folder / RUN).is_file():
        return Start()
    options = files.read_json(folder / RUN).get("options", {})
    given = {f.name: options[f.name] for f in dataclasses.fields(DistillConfig)
             if isinstance(f.default, float) and f.name in options}  # fmt: skip
    return start_of(task, DistillConfig(**given)) if given else Start()
