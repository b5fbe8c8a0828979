"""Images from the command line and from Python, on tiny models."""

import json

import numpy as np
import pytest
from cli_world import SMALL
from test_cli_bad_input import refused

import minidistil as md
from minidistil.cli import main
from minidistil.tasks.image_classification.data import pictures
from minidistil.tasks.pipeline import pipeline

TASK = ("--task", "image-classification")
TINY = {"model_type": "vit", "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 16, "image_size": 8, "patch_size": 4, "num_channels": 3}  # fmt: skip
KINDS = ("bright", "dark")


@pytest.fixture(scope="session")
def seen(tmp_path_factory):
    """Bright and dark images, and a ViT that has seen them: data, config.json, folder."""
    home, rng = tmp_path_factory.mktemp("seen"), np.random.default_rng(0)
    names = np.array(KINDS)[rng.integers(0, 2, 40)]
    low = np.where(names == "bright", 128, 0)[:, None, None, None]
    images = (low + rng.integers(0, 128, (40, 8, 8, 3))).astype(np.uint8)
    data, config, out = home / "data.npz", home / "vit.json", home / "vit"
    np.savez(data, images=images, labels=names)
    config.write_text(json.dumps(TINY))
    argv = ["finetune", *TASK, "--model", str(config), "--data", str(data), "--held-out", "8",
            "--steps", "3", "--out", str(out), *SMALL]  # fmt: skip
    assert main(argv) == 0
    return data, config, out


def answer(capsys, *argv):
    assert main([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_finetune_begins_from_a_config_and_goes_on_from_a_folder(seen, tmp_path):
    data, _, folder = seen
    model = md.from_pretrained(folder)
    assert model.task == "image-classification" and model.config.id2label == KINDS
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    assert settings["rescale_factor"] == 1 / 255 and settings["image_mean"] == [0.5] * 3
    argv = ["finetune", *TASK, "--model", folder, "--data", data, "--held-out", 8, "--steps", 1,
            "--lr", 1e-30, "--out", tmp_path / "more", *SMALL]  # fmt: skip
    assert main(list(map(str, argv))) == 0
    again = md.from_pretrained(tmp_path / "more").params
    assert all(np.allclose(again[n], p, atol=1e-6) for n, p in model.params.items())


def test_without_a_model_one_that_fits_the_images_begins(tmp_path):
    rng, out = np.random.default_rng(0), tmp_path / "run"
    np.savez(tmp_path / "d.npz", images=rng.random((9, 14, 14)), labels=np.arange(9) % 3)
    argv = ["finetune", *TASK, "--data", tmp_path / "d.npz", "--held-out", 2, "--steps", 1, "--out",
            out, *SMALL]  # fmt: skip
    assert main(list(map(str, argv))) == 0
    config = md.from_pretrained(out).config
    assert (config.num_channels, config.image_size, config.patch_size) == (1, 14, 2)
    assert config.id2label == ("0", "1", "2")


def test_a_resumed_run_ends_with_the_same_bits(seen, tmp_path):
    data, config, whole = seen
    out = tmp_path / "run"
    argv = ["finetune", *TASK, "--model", config, "--data", data, "--held-out", 8, "--steps", 3,
            "--checkpoint-every", 1, "--out", out, *SMALL]  # fmt: skip
    assert main(list(map(str, argv))) == 0
    for step in ("step-00000003", "step-3"):
        for path in (out / "checkpoints").glob(f"{step}*"):
            path.rename(tmp_path / path.name)
    assert main(["finetune", "--out", str(out), "--resume"]) == 0
    mine, theirs = (md.from_pretrained(folder).params for folder in (out, whole))
    assert all(np.array_equal(mine[n], p) for n, p in theirs.items())


def test_evaluate(seen, capsys):
    data, _, folder = seen
    found = answer(capsys, "evaluate", "--model", folder, "--data", data, *SMALL)
    assert set(found) == {"loss", "accuracy", "macro_f1", "matthews", "tokens"}
    assert found["tokens"] == 40 * 5
    part = answer(capsys, "evaluate", "--model", folder, "--data", data, "--held-out", 8, *SMALL)
    assert part["tokens"] == 8 * 5
    twice = answer(capsys, "evaluate", "--model", folder, "--model", folder, "--data", data, *SMALL)
    assert twice == pytest.approx(found)


@pytest.mark.parametrize("more", [(), ("--no-labels",), ("--recipe", "deit"),
                                  ("--recipe", "deit-soft", "--layers", "1")])  # fmt: skip
def test_distil(seen, tmp_path, capsys, more):
    data, _, folder = seen
    found = answer(capsys, "distill", "--teacher", folder, "--data", data, "--held-out", 8,
                   "--steps", 2, "--out", tmp_path / "run", *SMALL, *more)  # fmt: skip
    assert {"accuracy", "agreement"} <= set(found["models"][0])
    assert len(found["models"]) == (2 if "--no-labels" in more else 4)
    student = md.from_pretrained(tmp_path / "run")
    assert student.config.num_hidden_layers == 1 and student.config.id2label == KINDS
    assert student.config.model_type == ("deit" if "--recipe" in more else "vit")
    ours = answer(capsys, "evaluate", "--model", tmp_path / "run", "--data", data, "--held-out", 8,
                  *SMALL)  # fmt: skip
    assert ours["accuracy"] == found["models"][1]["accuracy"]


def test_predict(seen, tmp_path, capsys):
    data, _, folder = seen
    images = list(pictures(data).images)
    ours = pipeline("image-classification", folder)(images)
    assert [len(labels) for labels in ours] == [2] * 40
    assert sum(x["score"] for x in ours[0]) == pytest.approx(1)
    assert answer(capsys, "predict", "--model", folder, "--data", data) == ours
    one = pipeline("image-classification", folder)(images[3].transpose(2, 0, 1), top_k=1)
    assert one == ours[3][:1]
    assert main(["predict", "--model", str(folder), "--data", str(data), "--top-k", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[39].endswith("\timage 39")
    assert main(["predict", "--model", str(folder), "--data", str(data), "--lines"]) == 0
    assert [json.loads(x) for x in capsys.readouterr().out.splitlines()] == ours


def test_info(seen, capsys):
    _, _, folder = seen
    found = answer(capsys, "info", folder)
    assert found["task"] == "image-classification"
    assert found["parameters"] == sum(p.size for p in md.from_pretrained(folder).params.values())


def test_pixels_and_answers_are_transformers(seen):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    data, _, folder = seen
    images = pictures(data).images[:5]
    processor = transformers.ViTImageProcessor.from_pretrained(folder)
    batch = processor([x.transpose(2, 0, 1) for x in images], return_tensors="pt",
                      input_data_format="channels_first")  # fmt: skip
    theirs = transformers.ViTForImageClassification.from_pretrained(folder).eval()
    scores = theirs(**batch).logits.softmax(-1).detach().numpy()
    for labels, expected in zip(pipeline("image-classification", folder)(list(images)), scores,
                                strict=True):  # fmt: skip
        found = {x["label"]: x["score"] for x in labels}
        assert [found[k] for k in KINDS] == pytest.approx(expected, abs=1e-5)


def test_bad_input(seen, world, tmp_path, capsys):
    data, config, folder = map(str, seen)
    out = tmp_path / "run"
    train = ["finetune", *TASK, "--model", config, "--held-out", "8", "--steps", "1", "--out", out,
             *SMALL, "--data"]  # fmt: skip

    def stored(**arrays):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npz"
        np.savez(path, **arrays)
        return path

    images, labels = np.zeros((9, 8, 8, 3)), np.arange(9)
    for source, says in [
        ("movie-reviews", "images are digits or an .npz file"), (tmp_path / "no.npz", "not there"),
        (config, "images are digits or an .npz file"), (stored(x=images), 'no array "images"'),
        (stored(images=images), "holds no labels"), (stored(images=images[0, 0]), "not float64"),
        (stored(images=images, labels=labels[:3]), "9 whole numbers or names, one an image"),
        (stored(images=images, labels=np.zeros(9)), "not float64 (9,)"),
        (stored(images=images[:, :, :7], labels=labels), "is (8, 7, 3), the model reads 3"),
        (stored(images=np.zeros((9, 9, 9)), labels=labels), "reads 3 channels of 8 by 8"),
        (stored(images=images * np.nan, labels=labels), "image 0 holds NaN"),
    ]:  # fmt: skip
        refused(capsys, [*train, source], says, out=out)
    (tmp_path / "text.npz").write_text("no zip")
    refused(capsys, [*train, tmp_path / "text.npz"], "cannot be read as .npz", out=out)
    train[4] = world.teacher
    refused(capsys, [*train, data], "for bert, not 'image-classification'", out=out)
    refused(capsys, ["predict", "--model", folder, "a text"], "images come in --data")
    refused(capsys, ["predict", "--model", folder], "images come in --data")
    refused(capsys, ["quantize", "--model", folder, "--out", out], "texts", out=out)
    distil = ["distill", "--teacher", folder, "--data", data, "--held-out", 8, "--steps", 1,
              "--out", out, *SMALL]  # fmt: skip
    for more, says in [
        (["--student-family", "deit"], "the tokens before the patches: 2 against 1; set alpha_cos"),
        (["--recipe", "deit", "--alpha-ce", "0"], "distillation token from the teacher"),
        (["--recipe", "deit", "--no-labels"], "this batch has no labels"),
        (["--terms", "hidden"], "leave terms out"),
        (["--student-family", "bert"], "vit, deit for images, not 'bert'"),
        (["--cache-teacher", tmp_path / "c"], "--cache-teacher"),
    ]:
        refused(capsys, [*distil, *more], says, out=out)
    (seen[2] / "preprocessor_config.json").rename(tmp_path / "kept")
    refused(capsys, ["evaluate", "--model", folder, "--data", data], "preprocessor_config.json is")
    (tmp_path / "kept").rename(seen[2] / "preprocessor_config.json")


def test_the_digits(tmp_path):
    pytest.importorskip("sklearn")
    found = pictures("digits")
    assert found.images.shape == (1797, 8, 8) and found.images.max() == found.highest == 16
    assert set(found.labels) == set(range(10))
