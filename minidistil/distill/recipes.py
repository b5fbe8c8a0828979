"""Recipes: the distillation settings of papers and their code, as defaults that options override.

A recipe holds the options that differ from their defaults or must not follow them. It leaves out
the number of steps and the batch size, which depend on the machine, and label smoothing, image
augmentation and weight averaging, which no recipe here uses. A number that neither the paper nor
the code gives keeps its default.
"""

from typing import NamedTuple

from minidistil.distill.teachers import Teacher


class Recipe(NamedTuple):
    """Options of `minidistil distill`, by name; `needs`: the teacher's model types, () for any."""

    options: dict
    source: str
    needs: tuple = ()
    task: str | None = None


QUIET = {"alpha_ce": 0.0, "alpha_mlm": 0.0, "alpha_cos": 0.0, "alpha_hard": 0.0}
TRIPLE = {
    "temperature": 2.0, "alpha_ce": 5.0, "alpha_mlm": 2.0, "alpha_cos": 1.0, "betas": (0.9, 0.98),
    "lr": 5e-4, "warmup": 0.05, "schedule": "linear", "weight_decay": 0.0, "max_grad_norm": 5.0,
}  # fmt: skip
BERTADAM = {  # clips each parameter on its own; its scripts have a decay of 0.01
    "optimizer": "bertadam", "max_grad_norm": 0.0, "schedule": "linear", "warmup": 0.1,
    "weight_decay": 0.01,
}  # fmt: skip
MINILM = {**QUIET, "schedule": "linear", "warmup": 0.01, "weight_decay": 0.01}
LAMB = {
    "optimizer": "lamb", "lr": 1.5e-3, "schedule": "linear", "warmup": 0.02, "weight_decay": 0.01,
    "max_grad_norm": 1.0,
}  # fmt: skip
TOUVRON = {
    "alpha_mlm": 0.0, "alpha_cos": 0.0, "student_family": "deit", "lr": 5e-4, "schedule": "cosine",
    "warmup": 5 / 300, "weight_decay": 0.05, "eps": 1e-8, "max_grad_norm": 0.0,
}  # fmt: skip

RECIPES = {
    "distilbert": Recipe(
        TRIPLE,
        "Sanh et al., 2019; distillation/train.py's options, the weights of the losses as its "
        "author states them (transformers, issue 2013)",
    ),
    "distilroberta": Recipe(
        TRIPLE, "the same script and training_configs/distilroberta-base.json", ("roberta",)
    ),
    "distilgpt2": Recipe(
        {**TRIPLE, "alpha_ce": 0.5, "alpha_mlm": 0.0, "alpha_clm": 0.5, "alpha_cos": 0.0},
        "the same script's own defaults: no weights are published for DistilGPT2", ("gpt2",),
    ),
    "tinybert": Recipe(
        {**QUIET, **BERTADAM, "lr": 5e-5,
         "terms": ["attention:measure=scores", "hidden:projection=shared"]},
        "Jiao et al., 2020; general_distill.py, and the first step of task_distill.py, which has a "
        "constant rate instead: `--schedule constant --warmup 0`",
    ),
    "tinybert-prediction": Recipe(
        {**QUIET, **BERTADAM, "lr": 3e-5, "alpha_ce": 1.0, "temperature": 1.0,
         "convention": "tinybert"},
        "the same, task_distill.py --pred_distill, for classes; a regression there has the loss of "
        "its labels only, `--alpha-ce 0 --alpha-hard 1`", task="text-classification",
    ),
    "minilm": Recipe(
        {**MINILM, "terms": ["relations:pairs=qk,vv"], "lr": 5e-4},
        "Wang et al., MiniLM, 2020, §4.1: a warm-up of 4,000 of 400,000 steps; the rate is for "
        "6 layers of 768 channels with 1,024 texts a step, for smaller students 3e-4 with 256",
    ),
    "minilmv2": Recipe(
        {**MINILM, "terms": ["relations:pairs=qq,kk,vv:heads=48"], "lr": 6e-4},
        "Wang et al., MiniLMv2, 2021, §4.1: 48 relation heads of a base-size teacher; rate and "
        "warm-up as in its open implementation, bloomberg/minilmv2.bb",
    ),
    "pkd": Recipe(
        {**BERTADAM, "alpha_hard": 0.3, "alpha_ce": 0.7, "alpha_cos": 0.0, "temperature": 10.0,
         "convention": "pkd", "terms": ["patient:weight=500"], "lr": 1e-5},
        "Sun et al., 2019; its argument_parser.py's kd.cls, and NLI_KD_training.py's optimiser",
        task="text-classification",
    ),
    "mobilebert": Recipe(
        {**QUIET, **LAMB, "terms": ["feature-maps:weight=100:mean=50:variance=0.05",
                                    "attention:measure=ce:layers=first:mean=true"]},
        "Sun et al., MobileBERT, 2020; the command in google-research's mobilebert/README.md, with "
        "weights 100, 5000, 5 and 1; there one layer is trained at a time",
    ),
    "mobilebert-prediction": Recipe(
        {**QUIET, **LAMB, "alpha_mlm": 0.5, "alpha_ce": 0.5, "temperature": 1.0,
         "convention": "textbrewer", "restrict_ce_to_mask": True},
        "the same command after its layers: labels that are half the text's token, half the "
        "teacher's distribution; its next-sentence loss is left out", task="fill-mask",
    ),
    "deit": Recipe(
        {**TOUVRON, "alpha_hard": 0.5, "alpha_ce": 0.5, "hard_targets": True},
        "Touvron et al., 2021, eq. 3 and table 9, and DeiT's main.py: the teacher's argmax class "
        "is the label, as in its published models. The rate is for 512 images a step and scales "
        "with their number; the warm-up is 5 of 300 epochs, and gradients are not clipped",
        ("vit", "deit"), "image-classification",
    ),
    "deit-soft": Recipe(
        {**TOUVRON, "alpha_hard": 0.9, "alpha_ce": 0.1, "temperature": 3.0},
        "the same, eq. 2 with τ 3 and λ 0.1; `--convention deit` normalises it as the code does",
        ("vit", "deit"), "image-classification",
    ),
}  # fmt: skip


def recipe(name: str) -> Recipe:
    """The Recipe of that name. Raises ValueError for an unknown name."""
    if name not in RECIPES:
        raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, not {name!r}")
    return RECIPES[name]


def check_teacher(name: str, teacher: Teacher) -> None:
    """Raises ValueError for a teacher of another model type or task than the recipe's."""
    found, kind = recipe(name), teacher.config.model_type
    if found.needs and kind not in found.needs:
        raise ValueError(
            f"recipe {name!r} is for a teacher of type {' or '.join(found.needs)}, not {kind}; "
            f"give another --teacher or another --recipe"
        )
    if found.task and teacher.task != found.task:
        raise ValueError(f"recipe {name!r} is for {found.task}, not {teacher.task}; set --task")
