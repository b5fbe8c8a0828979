"""trace --html: the page's numbers are the trace's, its code the package's, for every family."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from cli_world import GOOD
from families_world import family_folder
from page_cases import (
    SCREENS,
    checked,
    data_of,
    gpt2_folder,
    noisy,
    run_in_node,
    shown_in_chromium,
    student_folder,
)

import minidistil as md
from minidistil.check.reference_batch import load
from minidistil.check.trace_values import trace
from minidistil.cli import main
from minidistil.cli.step_page import CUTS
from minidistil.cli.step_table import CODE

PAGES = Path("minidistil/pages").resolve()
MAPS = f"const {{numbersOf, placeOf, besideOf}} = require({json.dumps(str(PAGES / 'maps.js'))});"
TASKS = ("fill-mask", "text-classification", "token-classification", "question-answering",
         "feature-extraction")  # fmt: skip
CASES = {task: ("bert", task) for task in TASKS} | {
    "albert": ("albert", "fill-mask"), "roberta": ("roberta", "text-classification"),
    "gpt2": ("gpt2", "text-generation"),
}  # fmt: skip


def folder_of(case, world, home):
    family, task = CASES[case]
    if family == "gpt2":
        return gpt2_folder(home)
    if family != "bert":
        return str(family_folder(family, home, task))
    config = md.from_pretrained(world.teacher, backend="numpy").config
    noisy(md.from_config(config, task, backend="numpy")).save_pretrained(home)
    md.load_tokenizer(world.teacher).save(home, token_types=True)
    return str(home)


def made(folder, out, *more, text=GOOD):
    assert main(["trace", folder, "--text", text, "--html", str(out), *more]) == 0
    return data_of(checked(out))


@pytest.fixture(scope="module")
def pair(world, tmp_path_factory):
    """A teacher, a student, and the path and the data of their page."""
    home = tmp_path_factory.mktemp("pair")
    student = student_folder(world.teacher, home / "student")
    data = made(student, home / "page.html", "--teacher", world.teacher)
    return world.teacher, student, home / "page.html", data


def numbers_of(map_):
    return run_in_node(f"{MAPS} console.log(JSON.stringify([...numbersOf(given)]));", map_)


def every_number(maps):
    """The numbers of many maps, decoded by the page's own script."""
    script = f"{MAPS} console.log(JSON.stringify(given.map((map) => [...numbersOf(map)])));"
    return [np.reshape(x, m["shape"]) for x, m in zip(run_in_node(script, maps), maps, strict=True)]


@pytest.mark.parametrize("case", CASES)
def test_the_numbers_are_the_trace_s(case, world, tmp_path):
    folder = folder_of(case, world, tmp_path / "model")
    data = made(folder, tmp_path / "page.html")
    model = load(folder)
    batch = dict(md.load_tokenizer(folder)([GOOD]))
    named = trace(model, batch)
    steps = data["models"][0]["steps"]
    assert [step["name"] for step in steps[:-1]] == [
        n.removeprefix("gradient.") for n in named if n.startswith("gradient.")
    ]
    maps = [step[kind] for step in steps[:-1] for kind in ("value", "gradient")]
    for step, value, gradient in zip(steps, *[iter(every_number(maps))] * 2, strict=False):
        for kind, found in (("value", value), ("gradient", gradient)):
            x = named[f"{kind}.{step['name']}"][0].astype(np.float64)
            shown = x if x.ndim == 3 else np.atleast_2d(x)[:, step["columns"]][None]
            error = np.abs(found - shown).max()
            assert error <= 1.01 * step[kind]["top"] / 65534 + 1e-6 * np.abs(x).max()
            assert step[kind]["norm"] == pytest.approx(np.linalg.norm(x), rel=1e-5, abs=1e-12)
            assert step[kind]["most"] == pytest.approx(x.max(), rel=1e-5, abs=1e-12)
    assert numbers_of(steps[-1]["value"])[0] == pytest.approx(float(named["loss"][0]), rel=1e-4)
    assert numbers_of(steps[-1]["gradient"]) == [1]
    values = {step["name"]: named.get(f"value.{step['name']}") for step in steps}
    for number, step in enumerate(steps):
        before = [other["name"] for other in steps[:number]]
        assert set(step["reads"]) <= set(before), "a step reads what is computed before it"
        if "sum" in step["op"]:
            added = sum(values[name] for name in step["reads"])
            np.testing.assert_allclose(values[step["name"]], added, atol=1e-5)
        if step["op"] in ("gelu", "relu", "tanh", "layernorm", "linear"):
            assert len(step["reads"]) == 1


def test_every_op_has_equations_and_code_of_the_package():
    page = (PAGES / "steps.html").read_text(encoding="utf-8")
    assert set(re.findall(r'<template id="math-(\w+)">', page)) == set(CODE)
    for template in re.findall(r"<template.*?</template>", page, re.S):
        assert template.count("<div>") == 2, "forward and backward"


def test_the_code_is_read_from_the_package(pair, tmp_path):
    *_, data = pair
    gpt2 = made(gpt2_folder(tmp_path / "gpt2"), tmp_path / "page.html")
    for found in (data, gpt2):
        pieces = [p for both in found["code"].values() for some in both.values() for p in some]
        for piece in pieces:
            file, _, line = piece["place"].partition(", line ")
            lines = Path(file).read_text(encoding="utf-8").splitlines()
            text = piece["text"].splitlines()
            assert lines[int(line) - 1 :][: len(text)] == text
    assert {p["place"].partition(",")[0] for p in gpt2["code"]["pre_norm_sum"]["backward"]} == {
        "minidistil/model/decoder.py"
    }
    assert gpt2["code"]["causal_weights"]["forward"][0]["text"].startswith("def causal_weights")


def test_layers_are_paired_as_the_run_says_or_evenly(pair, world, tmp_path):
    _, student, _, data = pair
    assert data["pairs"] == [[0, 1]] and "evenly" in data["rule"]
    names = [model["name"] for model in data["models"]]
    assert names == [student, world.teacher]
    run = {"command": "minidistil distill", "options": {"layers": [0]}}
    Path(student, "run.json").write_text(json.dumps(run))
    found = made(student, tmp_path / "page.html", "--teacher", world.teacher)
    Path(student, "run.json").unlink()
    assert found["pairs"] == [[0, 0]] and "started as" in found["rule"]
    walked = run_in_node(f"""{MAPS} console.log(JSON.stringify([
      [0, 4, 5, 9].map((at) => placeOf(at, 5)), ["layer.0.q", "logits", "layer.0", "layer.7.q"]
        .map((name) => besideOf(name, given))]));""", [[0, 1]])  # fmt: skip
    places, names = walked
    assert [place["step"] for place in places] == [0, 4, 4, 0]
    assert [place["backward"] for place in places] == [False, False, True, True]
    assert names == ["layer.1.q", "logits", "layer.1", None]


def test_a_large_model_is_cut_and_the_page_says_so(tmp_path, world):
    config = md.BertConfig(
        vocab_size=md.load_tokenizer(world.teacher).vocab_size, hidden_size=48,
        num_hidden_layers=12, num_attention_heads=24, intermediate_size=80,
        max_position_embeddings=80,
    )  # fmt: skip
    md.from_config(config, backend="numpy").save_pretrained(tmp_path / "model")
    md.load_tokenizer(world.teacher).for_model(80, True).save(tmp_path / "model")
    text = " ".join(["the film was great"] * 16)
    data = made(str(tmp_path / "model"), tmp_path / "page.html", text=text)
    assert len(data["tokens"]) < 60 and f"the first {len(data['tokens'])} of" in data["cuts"][0]
    assert "attention heads" in " ".join(data["cuts"]) and "channels" in " ".join(data["cuts"])
    assert (len(data["tokens"]), data["models"][0]["steps"][2]["value"]["shape"][2]) != CUTS[0][:2]


def test_html_in_a_text_stays_text(tmp_path):
    folder = gpt2_folder(tmp_path / "gpt2")
    text = "</script><script>alert(1)</script>"
    data = made(folder, tmp_path / "page.html", text=text)
    assert "<" in "".join(data["tokens"])
    assert "alert(1)" not in checked(tmp_path / "page.html")


@pytest.mark.parametrize("argv, says", [
    (("MODEL", "--html", "OUT"), "a page shows 1 text, not 0"),
    (("MODEL", "--html", "OUT", "--text", "a", "b"), "a page shows 1 text, not 2"),
    (("MODEL", "--html", "OUT", "--text", "a", "--inputs-only"), "leave --out, --inputs-only"),
    (("MODEL", "--html", "OUT", "--text", "a " * 40), "42 tokens and"),
    (("MODEL", "--html", "OUT", "--text", " "), "text 0 is empty"),
    (("MODEL", "--text", "a", "--teacher", "MODEL"), "give --html FILE as well"),
    (("MODEL", "--html", "OUT", "--text", "a", "--teacher", "GPT2"), "splits a text into other"),
    (("MODEL", "--html", "OUT", "--text", "a", "--task", "multiple-choice"), "a page of steps is"),
    (("MODEL", "--html", "MINE", "--text", "a"), "is not a page of trace"),
])  # fmt: skip
def test_bad_input_is_one_line(argv, says, world, tmp_path, capsys):
    out, mine = tmp_path / "page.html", tmp_path / "mine.html"
    mine.write_text("my own")
    named = {"MODEL": world.teacher, "OUT": str(out), "MINE": str(mine)}
    if "GPT2" in argv:
        named["GPT2"] = gpt2_folder(tmp_path / "gpt2")
    code = main(["trace", *(named.get(x, x) for x in argv)])
    error = capsys.readouterr().err
    assert code == 2 and says in error and not out.exists() and mine.read_text() == "my own"
    assert len(error.splitlines()) == 1 and len(error) < 500


@pytest.mark.parametrize("screen", SCREENS)
def test_the_page_in_chromium(screen, pair, tmp_path):
    """The slider goes to a step of the way back; arrow keys on a map choose a cell."""
    *_, path, data = pair
    student, teacher = data["models"]
    steps = student["steps"]
    at = next(n for n, step in enumerate(steps) if step["name"] == "layer.0.q")
    script = f"""const slider = document.getElementById('step');
      slider.value = {2 * len(steps) - 1 - at}; slider.dispatchEvent(new Event('input'));
      const canvas = document.querySelectorAll('canvas')[1];
      for (const key of ['ArrowRight', 'ArrowDown', 'ArrowDown'])
        canvas.dispatchEvent(new KeyboardEvent('keydown', {{key}}));
      document.querySelectorAll('details').forEach((box) => {{ box.open = true; }});"""
    shown = shown_in_chromium(checked(path), tmp_path, script, screen)
    where = re.search(r'id="where">(.*?)<', shown)[1]
    assert where == f"backward ↑ {at + 1} of {len(steps)}: layer 0, q"
    cell = re.search(r'id="cell"[^>]*>(.*?)<', shown)[1].replace("−", "-")
    place, value, gradient = re.fullmatch(r"(.*): value (.*), gradient (.*)", cell).groups()
    assert place == f"layer 0, q, “{data['tokens'][2]}”, channel 1"
    n = 2 * steps[at]["value"]["shape"][2] + 1
    assert float(value) == pytest.approx(numbers_of(steps[at]["value"])[n], rel=1e-2)
    assert float(gradient) == pytest.approx(numbers_of(steps[at]["gradient"])[n], rel=1e-2)
    assert shown.count("<canvas") == 4, "value and gradient of student and teacher"
    assert shown.count('class="here" d=') + shown.count('d="M') >= 3, "lines between the layers"
    assert "teacher: layer 1, q" in shown and teacher["layers"] == 2
    assert shown.count("<table") == 4 and "def linear_backward" in shown
    assert "<b>value</b>" in shown and shown.count('class="now"') == 3
