"""Options that several commands share."""

import argparse
from argparse import BooleanOptionalAction

from minidistil.cli.chosen_rate import PICTURE as RATES_PICTURE
from minidistil.cli.chosen_rate import SEARCH, learning_rate
from minidistil.io.option_types import number_list
from minidistil.model.checkpoint import STORAGE_DTYPES
from minidistil.ops import GEMMS, PRECISIONS
from minidistil.train.layer_rates import EMBEDDINGS, parts
from minidistil.train.schedule import SCHEDULES
from minidistil.train.train_config import BUDGETS, KEPT, OPTIMIZERS, TrainConfig


def add_model_options(parser):
    parser.add_argument("--backend", default="cpu", help="cpu (default), cuda or numpy")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default: all cores")
    parser.add_argument(
        "--matmul-precision", default="highest", choices=PRECISIONS,
        help="of products: float32 (default), tf32 (CUDA; CPU: 2 × bfloat16) or bfloat16",
    )  # fmt: skip
    parser.add_argument(
        "--gemm", default="own", choices=GEMMS, help="which code computes CUDA's; cublas needs cupy"
    )


def add_inference_options(parser):
    add_model_options(parser)
    parser.add_argument(
        "--dtype", help="float32, bfloat16 or int8; default: int8 for a folder quantised so"
    )


def add_store_option(parser):
    parser.add_argument(
        "--store", default="float32", choices=list(STORAGE_DTYPES), help="how the weights are saved"
    )


TRAINED = ("float32", "bfloat16")


def trained_dtype(name):
    """A dtype in which models are trained."""
    if name not in TRAINED:
        raise argparse.ArgumentTypeError(
            f"training computes in {' or '.join(TRAINED)}, not {name!r}: int8 is for inference "
            f"(`minidistil quantize`), and float64 for `check`"
        )
    return name


def add_run_options(parser):
    parser.add_argument("--out", metavar="DIR", help="run folder; default: runs/COMMAND")
    parser.add_argument(
        "--resume", action="store_true", help="continue the run in --out, with its own options"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, order, masks and dropout")
    add_model_options(parser)
    parser.add_argument(
        "--dtype", type=trained_dtype, default="float32", metavar="D",
        help="float32 (default), or bfloat16: what enters a product is rounded, forward and "
        "backward; weights, sums and the optimiser stay float32",
    )  # fmt: skip


def add_training_options(parser, lr, schedule="linear", weight_decay=0.01, batch_tokens=4096):
    """Budget, optimiser and intervals: the fields of TrainConfig."""
    group = parser.add_argument_group("training")
    group.add_argument("--steps", type=int, metavar="N", help="budget: updates of the weights")
    group.add_argument("--tokens", type=int, metavar="N", help="budget: tokens seen")
    group.add_argument("--minutes", type=float, metavar="M",
                       help="budget: minutes of training, as steps; reading and compiling are "
                       "extra")  # fmt: skip
    group.add_argument("--epochs", type=int, metavar="N", help="budget: passes over the data")
    group.add_argument("--batch-tokens", type=int, default=batch_tokens, metavar="N")
    group.add_argument(
        "--accumulate", type=int, default=1, metavar="N",
        help="batches a step, as one large batch; under mpirun, of each rank",
    )  # fmt: skip
    group.add_argument(
        "--deterministic", action="store_true",
        help="under mpirun, the bits of one process that accumulates the batches of all ranks",
    )  # fmt: skip
    group.add_argument(
        "--overlap", action=BooleanOptionalAction, default=True,
        help="under mpirun, sum gradients while the backward is still working (on)",
    )  # fmt: skip
    group.add_argument("--optimizer", default="adamw", help=f"{', '.join(OPTIMIZERS)} (adamw)")
    group.add_argument(
        "--lr", type=learning_rate, default=lr, metavar="LR",
        help=f"highest learning rate ({lr:g}), or {SEARCH}: the best of short runs, by the loss on "
        f"what is held out; draws {RATES_PICTURE}",
    )  # fmt: skip
    group.set_defaults(usual_lr=lr)
    group.add_argument("--betas", type=number_list, default=TrainConfig.betas, metavar="B,B",
                       help="decay rates of the two moments (0.9,0.999)")  # fmt: skip
    group.add_argument("--eps", type=float, default=TrainConfig.eps, metavar="E",
                       help=f"added to the second moment's root ({TrainConfig.eps:g})")  # fmt: skip
    group.add_argument("--schedule", default=schedule, help=f"{', '.join(SCHEDULES)} ({schedule})")
    group.add_argument(
        "--warmup", type=float, default=0.05, help="a share of the steps, or their number (0.05)"
    )
    group.add_argument("--weight-decay", type=float, default=weight_decay, metavar="W")
    group.add_argument(
        "--layer-decay", type=float, default=1.0, metavar="X",
        help="each layer has X times the learning rate of the one above it, the heads the highest "
        "and the embeddings the lowest, such as 0.8 (1)",
    )  # fmt: skip
    add_freeze_option(group)
    group.add_argument("--max-grad-norm", type=float, default=1.0, metavar="G", help="0: no clip")
    for what in ("log", "eval", "checkpoint"):
        group.add_argument(f"--{what}-every", type=int, metavar="STEPS")
    group.add_argument(
        "--patience", type=int, metavar="N",
        help="stop after N evaluations in a row (see --eval-every) without improvement; default: "
        "after the last step",
    )  # fmt: skip
    group.add_argument(
        "--keep", default="last", choices=KEPT,
        help="which model is saved: the last, or the one whose evaluation was the best (last)",
    )  # fmt: skip
    group.add_argument(
        "--measure", metavar="NAME",
        help="the metric of an evaluation that --patience and --keep best use, such as loss; "
        "default: the task's own, such as accuracy, f1 or bleu",
    )  # fmt: skip


def add_freeze_option(group):
    group.add_argument(
        "--freeze", type=parts, default=(), metavar="PART,…",
        help=f"what is not trained: {EMBEDDINGS}, numbers of layers, or both: {EMBEDDINGS},0,1",
    )  # fmt: skip


def train_config(args, **default_budget):
    """The TrainConfig that the options describe; the budget is the default where none is given."""
    budget = {name: getattr(args, name) for name in BUDGETS}
    if all(value is None for value in budget.values()):
        budget |= default_budget
    names = ("optimizer", "lr", "betas", "eps", "schedule", "warmup", "weight_decay",
             "max_grad_norm", "accumulate", "deterministic", "overlap", "batch_tokens", "log_every",
             "eval_every", "checkpoint_every", "seed", "backend", "patience", "keep",
             "layer_decay", "freeze")  # fmt: skip
    options = {name: getattr(args, name) for name in names}
    if options["lr"] == SEARCH:
        options["lr"] = args.usual_lr
    return TrainConfig(**budget, **options)
