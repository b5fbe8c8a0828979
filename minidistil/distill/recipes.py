"""Recipes: the settings that papers and their code distil with, each open to change.

A recipe holds what differs from the options' own defaults. What cannot be carried over is left
out: the number of steps and the size of a batch, which belong to other machines. A number that
neither paper nor code gives keeps its default: another one would be a guess.
"""

from typing import NamedTuple


class Recipe(NamedTuple):
    """Options of `minidistil distill`, by name; `needs`: the teacher's model types, () for any."""

    options: dict
    source: str
    needs: tuple = ()
    task: str | None = None


QUIET = {"alpha_ce": 0.0, "alpha_mlm": 0.0, "alpha_cos": 0.0, "alpha_hard": 0.0}
TRIPLE = {
    "temperature": 2.0, "alpha_ce": 5.0, "alpha_mlm": 2.0, "alpha_cos": 1.0,
    "lr": 5e-4, "warmup": 0.05, "schedule": "linear", "weight_decay": 0.0, "max_grad_norm": 5.0,
}  # fmt: skip

TOUVRON = {
    "alpha_mlm": 0.0, "alpha_cos": 0.0, "student_family": "deit", "lr": 5e-4, "schedule": "cosine",
    "weight_decay": 0.05,
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
        {**QUIET, "terms": ["attention:measure=scores", "hidden:projection=shared"],
         "lr": 5e-5, "warmup": 0.1, "schedule": "linear", "weight_decay": 0.01,
         "max_grad_norm": 1.0},
        "Jiao et al., 2020; general_distill.py, and the first stage of task_distill.py; the second "
        "is `--convention tinybert --temperature 1` on the labels' task",
    ),
    "minilm": Recipe(
        {**QUIET, "terms": ["relations:pairs=qk,vv"], "lr": 5e-4, "schedule": "linear",
         "weight_decay": 0.01},
        "Wang et al., MiniLM, 2020, §4.1",
    ),
    "minilmv2": Recipe(
        {**QUIET, "terms": ["relations:pairs=qq,kk,vv:heads=48"], "lr": 6e-4,
         "schedule": "linear", "weight_decay": 0.01},
        "Wang et al., MiniLMv2, 2021, §4.1: 48 relation heads of a base-size teacher",
    ),
    "pkd": Recipe(
        {"alpha_hard": 0.3, "alpha_ce": 0.7, "alpha_cos": 0.0, "temperature": 10.0,
         "convention": "pkd", "terms": ["patient:weight=500"], "lr": 1e-5},
        "Sun et al., 2019; the code's kd.cls preset", task="text-classification",
    ),
    "mobilebert": Recipe(
        {**QUIET, "terms": ["feature-maps:weight=100:mean=50:variance=0.05",
                            "attention:measure=kl:layers=first"]},
        "Sun et al., MobileBERT, 2020; distill_util's weights 100, 1, 5000 and 5",
    ),
    "deit": Recipe(
        {**TOUVRON, "alpha_hard": 0.5, "alpha_ce": 0.5, "hard_targets": True},
        "Touvron et al., 2021, eq. 3 and table 9: the teacher's likeliest class, its published "
        "models' way", ("vit", "deit"), "image-classification",
    ),
    "deit-soft": Recipe(
        {**TOUVRON, "alpha_hard": 0.9, "alpha_ce": 0.1, "temperature": 3.0},
        "the same, eq. 2 with τ 3 and λ 0.1; `--convention deit` counts it as the code does",
        ("vit", "deit"), "image-classification",
    ),
}  # fmt: skip


def recipe(name):
    """The Recipe of that name. Raises ValueError for a name that is not there."""
    if name not in RECIPES:
        raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, not {name!r}")
    return RECIPES[name]


def check_teacher(name, teacher):
    """Raises ValueError for a teacher that the recipe is not for."""
    found, kind = recipe(name), teacher.config.model_type
    if found.needs and kind not in found.needs:
        raise ValueError(
            f"recipe {name!r} is for a teacher of type {' or '.join(found.needs)}, not {kind}; "
            f"give another --teacher or another --recipe"
        )
    if found.task and teacher.task != found.task:
        raise ValueError(f"recipe {name!r} is for {found.task}, not {teacher.task}; set --task")
