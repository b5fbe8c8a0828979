"""compare: the page's numbers are the library's, for words, next words and classes."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from cli_world import BAD, GOOD, SMALL
from families_world import family_folder
from page_cases import (
    SCREENS,
    checked,
    data_of,
    gpt2_folder,
    run_in_node,
    shown_in_chromium,
    student_folder,
)

import minidistil as md
from minidistil import losses
from minidistil.cli import main
from minidistil.cli.compare.compare_page import Compared, Start, page_data
from minidistil.cli.compare.compare_places import Place, compared, of_batches, of_texts
from minidistil.cli.html_page import embedded
from minidistil.distill.distill_config import DistillConfig
from minidistil.tasks.load_models import load

NUMPY = ("--backend", "numpy")
LOSSES = Path("minidistil/pages/losses.js").resolve()
AT = f"const {{lossesAt}} = require({json.dumps(str(LOSSES))});"
EVERY = f"""{AT} console.log(JSON.stringify(given.settings.map((s) =>
  given.places.map((place) => lossesAt(place, s, given.taus)))));"""
PRECISE = {"rtol": 1e-8, "atol": 1e-9}  # what the page states
WEIGHTS = ((1, 0, 0), (0, 1, 0), (5, 2, 1), (0.3, 4, 0))


@pytest.fixture(scope="module")
def pairs(world, tmp_path_factory):
    """{task: (teacher, student)}, folders."""
    home = tmp_path_factory.mktemp("pairs")
    gpt2 = gpt2_folder(home / "gpt2")
    teachers = {"fill-mask": world.teacher, "text-classification": world.classifier,
                "text-generation": gpt2}  # fmt: skip
    return {task: (folder, student_folder(folder, home / f"small-{task}"))
            for task, folder in teachers.items()}  # fmt: skip


TEXTS = {"fill-mask": GOOD, "text-classification": GOOD, "text-generation": "the cat ran"}


def both(folders):
    teacher, tokenizer = load(folders[0], backend="numpy")
    return teacher, load(folders[1], backend="numpy")[0], tokenizer


def places_of(folders, task):
    teacher, student, tokenizer = both(folders)
    labels = [1] if task == "text-classification" else None
    pieces, asked = of_texts(task, tokenizer, [TEXTS[task]], labels)
    return pieces, compared(student, teacher, asked)


def data_for(places, task="fill-mask", tau=2.0, pieces=()):
    return page_data(Compared(task, "t", "s", pieces, places, str, ""), Start(tau))


def settings_for(data, taus=(0.5, 1.0, 2.0, 3.7, 10.0)):
    return [{"tauIndex": data["taus"].index(tau), "kl": kl, "label": label, "cos": cos,
             "reverse": reverse}
            for tau, (kl, label, cos), reverse in itertools.product(taus, WEIGHTS, (False, True))
            ]  # fmt: skip


def reverse_gradient(z_s, z_t, tau):
    """τ²·∂KL(p_s ‖ p_t)/∂z_s."""
    log_s, log_t = (np.log(np.exp(z / tau) / np.exp(z / tau).sum()) for z in (z_s, z_t))
    kl = losses.kl_divergence(z_t[None], z_s[None], tau)[0] / tau**2
    return tau * np.exp(log_s) * (log_s - log_t - kl)


def test_the_reverse_gradient_is_a_derivative():
    z_s, z_t, u = np.random.default_rng(0).normal(0, 2, (3, 40))

    def loss(h):
        return losses.kl_divergence(z_t[None], (z_s + h * u)[None], 1.7)[0]

    slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
    assert reverse_gradient(z_s, z_t, 1.7) @ u == pytest.approx(slope, rel=1e-7)


def check_place(place, shown, settings, found, tau):
    """The page's numbers at a place are the library's."""
    z_s, z_t = place.z_s[None], place.z_t[None]
    chosen = np.array([int(word) for word in shown["words"]])
    rest = np.ones(len(place.z_s), bool)
    rest[chosen] = False
    kl, d = losses.kl_divergence(z_s, z_t, tau)
    d = d[0]
    if settings["reverse"]:
        kl, d = losses.kl_divergence(z_t, z_s, tau)[0], reverse_gradient(place.z_s, place.z_t, tau)
    d, total = settings["kl"] * d, settings["kl"] * kl
    if place.label >= 0:
        nll, dlabel = losses.cross_entropy(z_s, np.array([place.label]))
        np.testing.assert_allclose(found["label"], nll, **PRECISE)
        d, total = d + settings["label"] * dlabel[0], total + settings["label"] * nll
    total += settings["cos"] * (place.cos or 0)
    for name, wanted in (("kl", kl), ("total", total)):
        np.testing.assert_allclose(found[name], wanted, **PRECISE)
    np.testing.assert_allclose(found["d"], d[chosen], **PRECISE)
    np.testing.assert_allclose(found["dRest"], d[rest].sum(), **PRECISE)
    for name, z in (("pS", place.z_s), ("pT", place.z_t)):
        p = np.exp(z / tau) / np.exp(z / tau).sum()
        np.testing.assert_allclose(found[name], p[chosen], **PRECISE)
        np.testing.assert_allclose(found[f"rest{name[1]}"], p[rest].sum(), **PRECISE)
    assert abs(sum(found["pS"]) + found["restS"] - 1) < 1e-12
    if rest.any():
        assert found["least"] <= d[rest].min() + 1e-8 and found["most"] >= d[rest].max() - 1e-8


@pytest.mark.parametrize("task", TEXTS)
def test_the_numbers_are_the_library_s(task, pairs):
    _, places = places_of(pairs[task], task)
    data = data_for(places[:4], task, tau=3.7)
    settings = settings_for(data)
    every = run_in_node(EVERY, data | {"settings": settings})
    assert any(place["others"] for place in data["places"]) == (task != "text-classification")
    for one, found in zip(settings, every, strict=True):
        for place, shown, numbers in zip(places, data["places"], found, strict=False):
            check_place(place, shown, one, numbers, data["taus"][one["tauIndex"]])


def test_a_large_vocabulary_and_extreme_logits():
    rng = np.random.default_rng(0)
    places = [Place(0, 0, 7, *rng.normal(0, scale, (2, 2000)), None, None) for scale in (1, 30)]
    places.append(Place(0, 0, -100, np.linspace(-300, 300, 2000), np.zeros(2000), 0.5, 0.1))
    data = data_for(places, tau=3.7)
    assert all(len(place["words"]) < 400 for place in data["places"])
    settings = [one for one in settings_for(data) if not one["reverse"]]
    every = run_in_node(EVERY, data | {"settings": settings})
    for one, found in zip(settings, every, strict=True):
        for place, shown, numbers in zip(places, data["places"], found, strict=True):
            check_place(place, shown, one, numbers, data["taus"][one["tauIndex"]])


@pytest.mark.parametrize("task", TEXTS)
def test_the_means_are_those_of_a_distillation_step(task, pairs):
    """Of a batch whose rows are the page's places, with the defaults of a run."""
    teacher, student, tokenizer = both(pairs[task])
    batch = dict(tokenizer([TEXTS[task]]))
    batch["labels"] = np.array([1])
    if task != "text-classification":
        batch["labels"] = batch["input_ids"].copy()
    if task == "fill-mask":
        masked = np.isin(np.arange(batch["input_ids"].shape[1]), (2, 4, 5))
        batch["input_ids"][:, masked] = tokenizer.mask_id
        batch["labels"][:, ~masked] = -100
    name = {"fill-mask": "mlm", "text-generation": "clm"}.get(task, "hard")
    config = DistillConfig(restrict_ce_to_mask=task == "fill-mask", alpha_clm=2.0 * (name == "clm"))
    step = md.distill_step(student, teacher, batch, config)
    _, asked = of_batches(student, tokenizer, [batch])
    data = data_for(compared(student, teacher, asked), task)
    settings = [{"tauIndex": data["taus"].index(2.0), "kl": 5, "label": 2, "cos": 1,
                 "reverse": False}]  # fmt: skip
    (found,) = run_in_node(EVERY, data | {"settings": settings})
    means = {part: np.mean([place[key] for place in found])
             for part, key in (("ce", "kl"), (name, "label"), ("cos", "cos"))}  # fmt: skip
    if task == "text-generation":  # the last row, without a label, counts in ce and cos alone
        _, places = places_of(pairs[task], task)
        data = data_for(places, task)
        (found,) = run_in_node(EVERY, data | {"settings": settings})
        means |= {"ce": np.mean([place["kl"] for place in found]),
                  "cos": np.mean([place["cos"] for place in found])}  # fmt: skip
    if task == "fill-mask":
        del means["cos"]  # a mean over all tokens, masked or not
    for part, value in means.items():
        assert value == pytest.approx(float(step.parts[part]), rel=1e-5), part


# ------------------------------------------------------- the command


@pytest.mark.parametrize("task", TEXTS)
def test_the_command(task, pairs, tmp_path, capsys):
    out = tmp_path / "page.html"
    argv = ["compare", *pairs[task], "--text", TEXTS[task], *NUMPY, "--out", str(out)]
    assert main(argv) == 0
    assert str(out) in capsys.readouterr().out
    data = data_of(checked(out))
    count = {"fill-mask": len(GOOD.split()), "text-classification": 1}.get(task)
    assert count in (None, len(data["places"]))
    assert data["places"][0]["piece"] == (None if task == "text-classification" else 1)
    assert main(argv) == 0, "it replaces its own page"
    out.write_text("my own")
    assert main(argv) == 2 and "is not a page of compare" in capsys.readouterr().err


def test_words_are_hidden_in_turn_and_given_masks_are_kept(pairs):
    *_, tokenizer = both(pairs["fill-mask"])
    pieces, asked = of_texts("fill-mask", tokenizer, [GOOD])
    ids = tokenizer([GOOD])["input_ids"][0]
    for one in asked:
        for m, (_, column) in enumerate(one.places):
            assert one.labels[m] == ids[column] and pieces[0][column] in GOOD
            assert one.batch["input_ids"][m, column] == tokenizer.mask_id
            assert (one.batch["input_ids"][m] != ids).sum() == 1
    mask = tokenizer.names["mask"]
    _, (one,) = of_texts("fill-mask", tokenizer, [f"the {mask} was {mask}"])
    assert len(one.places) == 2 and (one.labels == -100).all()


def test_a_token_that_looks_like_html_stays_text(pairs, tmp_path):
    out = tmp_path / "page.html"
    text = "the <b>cat</b> </script><script>alert(1)</script> ran"
    folders = pairs["text-generation"]
    assert main(["compare", *folders, "--text", text, *NUMPY, "--out", str(out)]) == 0
    assert "alert(1)" not in checked(out)
    assert "<" in "".join(data_of(checked(out))["texts"][0])
    value = {"a": "</script><!--<script>&"}
    assert "<" not in embedded(value) and json.loads(embedded(value)) == value


@pytest.mark.parametrize("argv, says", [
    (("TEACHER", "CLASSIFIER", "--text", "a"), "'text-classification' against 'fill-mask'"),
    (("TEACHER", "TEACHER", "--text", "a " * 80), "the page has room for 32"),
    (("TEACHER", "TEACHER", "--text", *["a film " * 9] * 15), "270 places are too many"),
    (("TEACHER", "TEACHER", "--text", " "), "text 0 is empty"),
    (("TEACHER", "GPT2", "--text", "a"), "must share a task"),
    (("CLASSIFIER", "CLASSIFIER", "--text", "a", "--label", "fine"), "'fine' is no class"),
    (("CLASSIFIER", "CLASSIFIER", "--text", "a", "--label", "good", "bad"), "2 labels for 1 text"),
    (("TEACHER", "TEACHER", "--text", "a", "--label", "good"), "--label is for text-classific"),
    (("TEACHER", "nowhere", "--text", "a"), "nowhere"),
    (("BODY", "BODY", "--text", "a", "--task", "feature-extraction"), "are compared in fill-mask"),
])  # fmt: skip
def test_bad_input_is_one_line(argv, says, world, pairs, tmp_path, capsys):
    named = {"TEACHER": world.teacher, "CLASSIFIER": world.classifier, "BODY": world.teacher,
             "GPT2": pairs["text-generation"][0], "nowhere": str(tmp_path / "nowhere")}  # fmt: skip
    out = tmp_path / "page.html"
    argv = [named.get(x, x) for x in argv]
    code = main(["compare", *argv, *NUMPY, "--out", str(out)])
    error = capsys.readouterr().err
    assert code == 2 and not out.exists() and says in error
    lines = [line for line in error.splitlines() if not line.startswith("warning")]
    assert len(lines) == 1 and len(lines[0]) < 500


def test_a_run_writes_the_page_and_its_report_links_to_it(world, tmp_path):
    for teacher, data in ((world.teacher, world.text), (world.classifier, world.labelled)):
        out = tmp_path / Path(teacher).name
        assert main(["distill", "--teacher", teacher, "--data", data, "--out", str(out), "--steps",
                     "1", "--no-baselines", "--temperature", "3.3", *SMALL]) == 0  # fmt: skip
        assert '<a href="compare.html">' in (out / "report.html").read_text(encoding="utf-8")
        found = data_of(checked(out / "compare.html"))
        assert 1 <= len(found["texts"]) <= 5 and found["start"]["tau"] == 3.3
        assert all(place["label"] >= 0 for place in found["places"])


def test_classifiers_with_a_tokenizer_each(world, tmp_path, capsys):
    """Each reads the text in its own tokens, whose hidden states are not compared; their classes
    have the same names in the same order."""
    student = str(family_folder("roberta", tmp_path / "roberta", "text-classification"))
    out = tmp_path / "page.html"
    argv = ["compare", world.classifier, student, "--text", GOOD, "--out", str(out), *NUMPY]
    assert main(argv) == 2 and "LABEL_0, LABEL_1, are not the teacher's" in capsys.readouterr().err
    config = Path(student, "config.json")
    fields = json.loads(config.read_text())
    names = json.loads(Path(world.classifier, "config.json").read_text())
    config.write_text(json.dumps(fields | {n: names[n] for n in ("id2label", "label2id")}))
    assert main(argv) == 0
    (place,) = data_of(checked(out))["places"]
    assert place["cos"] is None and place["others"] == 0
    teacher = md.from_pretrained(world.classifier, backend="numpy")
    logits = teacher.forward(**md.load_tokenizer(world.classifier)([GOOD])).logits[0]
    found = dict(zip(place["words"], place["zT"], strict=True))
    named = teacher.config.id2label
    assert found == pytest.approx({named[k]: float(z) for k, z in enumerate(logits)}, abs=1e-5)


def test_a_run_with_two_teachers_has_a_page_without_cosine(world, tmp_path):
    out = tmp_path / "run"
    assert main(["distill", "--teacher", world.teacher, "--teacher", world.teacher, "--alpha-cos",
                 "0", "--data", world.text, "--out", str(out), "--steps", "1", "--no-baselines",
                 "--layers", "0", *SMALL]) == 0  # fmt: skip
    places = data_of(checked(out / "compare.html"))["places"]
    assert places and all(place["cos"] is None for place in places)


@pytest.mark.parametrize("screen", SCREENS)
def test_the_page_in_chromium(screen, pairs, tmp_path):
    """Sliders, direction and the choice of a word change the numbers that are shown."""
    out = tmp_path / "page.html"
    folders = pairs["fill-mask"]
    assert main(["compare", *folders, "--text", GOOD, *NUMPY, "--out", str(out)]) == 0
    page = checked(out)
    _, places = places_of(folders, "fill-mask")
    place = places[3]
    tau = data_of(page)["taus"][20]
    script = """document.querySelector('[data-place="3"]').click();
      const set = (id, value) => { const dial = document.getElementById(id); dial.value = value;
        dial.dispatchEvent(new Event('input', {bubbles: true})); };
      set('tau', 20); set('kl', 3); set('label', 1.5); set('direction', 'reverse');"""
    shown = shown_in_chromium(page, tmp_path, script, screen)
    kl = losses.kl_divergence(place.z_t[None], place.z_s[None], tau)[0]
    nll = losses.cross_entropy(place.z_s[None], np.array([place.label]))[0]
    for value in (kl, 3 * kl, nll, 1.5 * nll, 3 * kl + 1.5 * nll + place.cos):
        assert f"<td>{value:.4f}</td>" in shown
    assert f">{GOOD.split()[3]} (hidden word)<" in shown
    other = BAD.split()[0]
    assert f"At “{other}”" not in shown and f"At “{GOOD.split()[3]}”" in shown
