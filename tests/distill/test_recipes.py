"""Recipes: every setting is an option that exists, options given win, and wrong teachers are
refused."""

import dataclasses
from types import SimpleNamespace

import pytest

import minidistil as md
from minidistil.cli import parser_of
from minidistil.distill.objectives import AttentionLoss, HiddenMSE, RelationLoss
from minidistil.distill.objectives.term_spec import term_of
from minidistil.distill.recipes import RECIPES, check_teacher


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_sets_options_that_exist(name):
    args = parser_of("distill").parse_args(["--recipe", name])
    for key, value in RECIPES[name].options.items():
        assert getattr(args, key) == value
    fields = {field.name for field in dataclasses.fields(md.DistillConfig)}
    losses = {key: value for key, value in RECIPES[name].options.items() if key in fields}
    md.DistillConfig(**losses)


def test_an_option_that_is_given_wins():
    for argv in (["--recipe", "pkd", "--lr", "0.5"], ["--lr", "0.5", "--recipe", "pkd"]):
        args = parser_of("distill").parse_args(argv)
        assert (args.lr, args.temperature) == (0.5, 10.0)


def test_also_one_that_says_the_default():
    lr = parser_of("distill").get_default("lr")
    args = parser_of("distill").parse_args(["--lr", str(lr), "--recipe", "pkd"])
    assert (args.lr, args.temperature) == (lr, 10.0)


@pytest.mark.parametrize("where", [slice(None), slice(None, None, -1)], ids=["after", "before"])
def test_every_setting_of_a_recipe_can_be_changed(where):
    """Flags and lists, too: terms that are given stand in place of the recipe's."""
    for name, options in ((n, r.options) for n, r in RECIPES.items()):
        for key, value in options.items():
            flag = f"--{key.replace('_', '-')}"
            other = {bool: [f"--no-{flag[2:]}"], list: [flag, "patient"], str: [flag, "other"],
                     float: [flag, "7.5"], tuple: [flag, "0.5,0.5"]}[type(value)]  # fmt: skip
            argv = [*([["--recipe", name], other][where])]
            args = parser_of("distill").parse_args([word for part in argv for word in part])
            new = {bool: False, list: ["patient"], str: "other", float: 7.5, tuple: (0.5, 0.5)}
            assert getattr(args, key) == new[type(value)]
            kept = {k: x for k, x in options.items() if k != key}
            assert {k: getattr(args, k) for k in kept} == kept


def test_numbers_of_the_sources():
    """Spot checks of what the files and papers named in each recipe say."""
    settings = {n: r.options for n, r in RECIPES.items()}
    assert settings["distilbert"]["betas"] == (0.9, 0.98)  # train.py's AdamW
    assert settings["tinybert"]["optimizer"] == settings["pkd"]["optimizer"] == "bertadam"
    mobile = settings["mobilebert"]
    assert (mobile["optimizer"], mobile["lr"], mobile["warmup"]) == ("lamb", 0.0015, 10 / 500)
    feature, attention = map(term_of, mobile["terms"])
    assert [feature.weight, feature.weight * feature.mean, feature.weight * feature.variance,
            attention.weight] == pytest.approx([100, 5000, 5, 1])  # fmt: skip
    deit = settings["deit"]
    assert (deit["lr"], deit["weight_decay"], deit["max_grad_norm"]) == (5e-4, 0.05, 0.0)
    assert deit["warmup"] == pytest.approx(5 / 300)
    assert settings["minilm"]["warmup"] == settings["minilmv2"]["warmup"] == 4000 / 400_000


def test_wrong_teachers_are_refused():
    bert = SimpleNamespace(config=SimpleNamespace(model_type="bert"), task="fill-mask")
    with pytest.raises(ValueError, match="'distilroberta' is for a teacher of type roberta, not"):
        check_teacher("distilroberta", bert)
    with pytest.raises(ValueError, match="for text-classification, not fill-mask; set --task"):
        check_teacher("pkd", bert)
    with pytest.raises(ValueError, match=r"recipe must be one of distilbert, .*, not 'bart'"):
        check_teacher("bart", bert)
    check_teacher("tinybert", bert)


def test_terms_in_words():
    assert term_of("hidden") == HiddenMSE()
    assert term_of("hidden:layers=1-2,3-4:embeddings=false") == HiddenMSE(
        layers=((1, 2), (3, 4)), embeddings=False
    )
    assert term_of("attention:measure=kl:layers=last:weight=2") == AttentionLoss("kl", 2.0, "last")
    assert term_of("relations:pairs=qk,vv:heads=12") == RelationLoss(("qk", "vv"), heads=12)
    assert md.DistillConfig(terms=("hidden",)).terms == (HiddenMSE(),)


@pytest.mark.parametrize("text, says", [
    ("tail", "a term must be one of hidden, attention, relations, patient, feature-maps, not"),
    ("hidden:width=3", "the term hidden has the options weight, layers"),
    ("hidden:weight=heavy", "'weight=heavy' is no value for the term hidden"),
    ("attention:padded=maybe", "'padded=maybe' is no value"),
    ("attention:measure=cos", "measure must be one of scores, probs, ce, kl, not 'cos'"),
])  # fmt: skip
def test_wrong_words_are_refused(text, says):
    with pytest.raises(ValueError, match=says):
        term_of(text)
