"""Recipes: every setting is an option that exists, options given win, and wrong teachers are
refused."""

import dataclasses
from types import SimpleNamespace

import pytest

import minidistil as md
from minidistil.cli import parser_of
from minidistil.distill.recipes import RECIPES, check_teacher
from minidistil.distill.terms import AttentionLoss, HiddenMSE, RelationLoss
from minidistil.distill.terms.spec import term_of


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
