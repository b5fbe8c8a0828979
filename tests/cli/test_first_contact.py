"""What a newcomer types first: a version, a mistyped word, a model by place, a text to classify."""

import json

import pytest

import minidistil
from minidistil.cli import COMMANDS, main, parser_of

TAKE_A_MODEL = ("info", "trace", "check", "evaluate", "quantize", "augment", "finetune", "pretrain",
                "bench")  # fmt: skip
TAKE_TEXTS = {"predict": "texts", "fill-mask": "texts", "generate": "texts", "search": "queries"}
NEEDED = {"augment": ("--data", "x", "--out", "y"), "search": ("--items", "x"),
          "quantize": ("--out", "x")}  # fmt: skip


def refused(capsys, *argv):
    assert main([str(word) for word in argv]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_the_version(capsys):
    for argv in (["--version"], ["-V"]):
        assert main(argv) == 0
        assert capsys.readouterr().out == f"minidistil {minidistil.__version__}\n"


@pytest.mark.parametrize(("typed", "meant"), [
    ("distil", "distill"), ("fillmask", "fill-mask"), ("evalute", "evaluate"), ("bech", "bench"),
])  # fmt: skip
def test_a_mistyped_command(typed, meant, capsys):
    assert refused(capsys, typed) == (
        f"error: there is no command {typed!r}; did you mean {meant}?"
    )


def test_a_command_like_none(capsys):
    assert all(name in refused(capsys, "xyzzy") for name in COMMANDS)


def test_a_mistyped_option(capsys):
    error = refused(capsys, "distill", "--tempreture", "3")
    assert "--tempreture (did you mean --temperature?)" in error
    assert "did you mean" not in refused(capsys, "distill", "--xyzzy")


@pytest.mark.parametrize("command", TAKE_A_MODEL)
def test_a_model_by_place(command, capsys):
    """Both forms, before and behind options, and never two models where one is taken."""
    parse, more = parser_of(command).parse_args, NEEDED.get(command, ())
    found = [parse(argv).model for argv in (["A", *more], [*more, "A"], ["--model", "A", *more])]
    assert found in (["A"] * 3, [["A"]] * 3)
    if command in ("info", "evaluate"):
        assert parse(["A", "B", *more]).model == ["A", "B"]
    else:
        with pytest.raises(ValueError, match="the model is given twice, B and A"):
            parse(["A", "--model", "B", *more])


@pytest.mark.parametrize("command", TAKE_TEXTS)
def test_a_model_before_texts(command, world):
    """A first text that is a model's folder is the model; with --model every text is a text."""
    dest, more = TAKE_TEXTS[command], NEEDED.get(command, ())

    def parsed(*argv):
        found = parser_of(command).parse_args([*argv, *more])
        return found.model, getattr(found, dest)

    folder = str(world.teacher)
    assert parsed(folder, "a film") == (folder, ["a film"])
    assert parsed(folder, "--top-k", "2", "a film") == (folder, ["a film"])
    assert parsed("--model", "m", folder) == ("m", [folder])
    if command in ("fill-mask", "generate"):
        with pytest.raises(ValueError, match="required: TEXT"):
            parsed(folder)


def test_teachers_by_place():
    parse = parser_of("distill").parse_args
    assert parse(["A", "B"]).teacher == parse(["--teacher", "A", "--teacher", "B"]).teacher
    assert parse([]).teacher is None


def test_a_model_that_is_needed(capsys):
    for command in ("info", "trace", "check"):
        assert "a model is needed: its folder or --model FOLDER" in refused(capsys, command)
    assert "a model is needed" in refused(capsys, "generate", "a film")


def test_after_a_double_dash_all_words_are_texts():
    assert parser_of("predict").parse_args(["--", "-3", "--model"]).texts == ["-3", "--model"]


def test_a_masked_language_model_classifies_nothing(world, capsys):
    """Was: "text 0 has no [MASK] for the model to fill", or a class of random weights."""
    error = refused(capsys, "predict", world.teacher, "the [MASK]", "the film was great")
    assert "has no classifier: it is a masked language model" in error
    assert "text 1 has none" in error and "minidistil fill-mask" in error
    error = refused(capsys, "predict", world.teacher, "--task", "text-classification", "great")
    assert "has no text-classification head, its task is fill-mask" in error
    assert main(["predict", str(world.teacher), "the [MASK]", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]


# ------------------------------------------------------- info


def shown(capsys, *argv):
    assert main(["info", *map(str, argv)]) == 0
    return capsys.readouterr().out


def test_a_published_size_is_a_page(capsys):
    """Was: a line for each of 1,156 parameters. The layers are equal: one row, for all of them."""
    out = shown(capsys, "gpt3-175b")
    assert len(out.splitlines()) < 45
    (row,) = (line for line in out.splitlines() if line.startswith("transformer.h.i.mlp.c_fc.w"))
    assert row.split()[1:5] == ["12288×49152", "×", "96", f"{12288 * 49152 * 96:,}"]
    assert f"total {174_604_259_328:,}" in " ".join(out.split())


def test_two_families_are_compared_by_common_names(world, tmp_path, capsys):
    """Was: hidden_size with a gap beside it, and dim with a gap before it."""
    teacher = minidistil.from_pretrained(world.teacher)
    minidistil.student_from(teacher, layers=(1,)).save_pretrained(tmp_path)
    rows = [line.split() for line in shown(capsys, world.teacher, tmp_path).splitlines() if line]
    a, b = teacher.config, minidistil.from_pretrained(tmp_path).config
    assert ["hidden_size", "(dim)", str(a.hidden_size), str(b.dim)] in rows
    assert ["num_hidden_layers", "(n_layers)", str(a.num_hidden_layers), "1"] in rows
    assert [
        "intermediate_size",
        "(hidden_dim)",
        str(a.intermediate_size),
        str(b.hidden_dim),
    ] in rows
    (row,) = (row for row in rows if row[0] == "layer.i.q.weight")
    C = a.hidden_size
    assert row[1:4] == [f"{C}×{C}", "×", str(a.num_hidden_layers)] and row[5] == f"{C}×{C}"


def test_layers_of_several_shapes_stay_apart():
    from minidistil.cli.info import _folded

    def parameter(i, shape):
        return {"name": f"layer.{i}.w", "shape": shape, "share": 0.5}

    (same,) = _folded("name", [parameter(0, [2, 3]), parameter(1, [2, 3])])
    (apart,) = _folded("name", [parameter(0, [2, 3]), parameter(1, [4, 3])])
    assert list(same) == ["layer.i.w"] and same["layer.i.w"][1:] == (2, 1.0)
    assert list(apart) == ["layer.0.w", "layer.1.w"]
