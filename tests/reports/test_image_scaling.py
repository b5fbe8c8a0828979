"""Images: numbers that lie between 0 and 1 already, and numbers that were never scaled."""

import json
import warnings

import numpy as np
import pytest
from labelled_models import QUICK, ran

import minidistil as md
from minidistil.config import VitConfig
from minidistil.data.batches import Batching
from minidistil.data.image_processor import ImageProcessor
from minidistil.tasks.image_classification.data import Images, pictures
from minidistil.tasks.pipeline import pipeline

TASK = ("--task", "image-classification")
SIZE = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 4,
        "intermediate_size": 8, "patch_size": 2, "num_channels": 3}  # fmt: skip
BYTES = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8)
UNIT = (BYTES / 255).astype(np.float32)
VIT = {"do_rescale": True, "rescale_factor": 1 / 255, "image_mean": [0.5] * 3,
       "image_std": [0.5] * 3}  # fmt: skip


def processor(**settings):
    return ImageProcessor(VitConfig(**SIZE), VIT | settings)


def stored(path, images=UNIT):
    np.savez(path, images=images, labels=np.arange(len(images)) % 2)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A ViT whose folder scales numbers up to 255."""
    folder = tmp_path_factory.mktemp("scaling") / "vit"
    config = VitConfig(**SIZE, id2label=("0", "1"), num_labels=2)
    model = md.from_config(config, "image-classification", backend="numpy")
    model.save_pretrained(folder)
    processor().save(folder)
    return folder


@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "bool"])
def test_numbers_between_0_and_1_are_not_scaled_again(kind):
    """Was: floats to 1 were divided by 255 once more, so that every pixel was about −1.
    Right: what bytes give; a warning names the factor that is not applied."""
    images = UNIT.astype(kind) if kind != "bool" else BYTES > 99
    wanted = processor()(list((images * 255.0).astype(np.float64)))
    with pytest.warns(UserWarning, match=r"0 and 1 already, so that rescale_factor 0\.00392157 is"):
        found = processor()(list(images))
    np.testing.assert_allclose(found, wanted, atol=2e-3 if kind == "float16" else 1e-6)
    assert found.max() > 0.9


@pytest.mark.parametrize(
    ("images", "settings"),
    [
        (BYTES, {}),
        (BYTES.astype(np.float32), {}),
        (BYTES % 2, {}),
        (np.zeros((2, 4, 4, 3)), {}),
        (UNIT, {"do_rescale": False}),
        (UNIT, {"rescale_factor": 1.0}),
        (BYTES, {"rescale_factor": 1 / 127.5, "image_mean": 1.0, "image_std": 1.0}),
        (BYTES, {"do_rescale": False, "image_mean": 127.5, "image_std": 127.5}),
        (BYTES, {"do_rescale": False, "do_normalize": False}),
    ],
)
def test_what_the_file_says_is_done_in_silence(images, settings):
    """Was: as it should be, and stays.
    Right: scale and normalise as transformers does, where the numbers are of the file's range."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = processor(**settings)(list(images))
    said = {"do_rescale": True, "do_normalize": True} | VIT | settings
    scaled = images.transpose(0, 3, 1, 2) * (said["rescale_factor"] if said["do_rescale"] else 1)
    if said["do_normalize"]:
        scaled = (scaled - np.max(said["image_mean"])) / np.max(said["image_std"])
    np.testing.assert_allclose(found, scaled, atol=1e-5)


def test_as_transformers_but_for_its_second_scaling():
    """Was: as transformers, which warns and scales again; here without a warning.
    Right: bytes as transformers; floats to 1 as transformers with do_rescale=False, as its own
    warning advises."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    theirs = transformers.ViTImageProcessor(do_resize=False, **VIT)
    options = {"return_tensors": "np", "input_data_format": "channels_last"}
    bytes_too = theirs(list(BYTES), **options)["pixel_values"]
    np.testing.assert_allclose(processor()(list(BYTES)), bytes_too, atol=1e-6)
    unscaled = theirs(list(UNIT), do_rescale=False, **options)["pixel_values"]
    with pytest.warns(UserWarning, match="already"):
        found = processor()(list(UNIT))
    np.testing.assert_allclose(found, unscaled, atol=1e-6)


def test_numbers_that_were_never_scaled():
    """Was: do_rescale: false gave a model bytes where it expects 0 to 1, without a word.
    Right: done as the file says, with a warning of both numbers."""
    with pytest.warns(UserWarning, match=r"numbers up to 255, which .* scales by 1, where"):
        processor(do_rescale=False)(list(BYTES))
    with pytest.warns(UserWarning, match=r"numbers up to 255.* scales by 0\.0625"):
        processor(rescale_factor=1 / 16)(list(BYTES))


def test_a_warning_is_given_once():
    """Was: there was none.
    Right: one for a processor, not one for each 32 images."""
    reads = processor()
    with pytest.warns(UserWarning, match="already"):
        reads(list(UNIT))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reads(list(UNIT))


@pytest.mark.parametrize(
    ("images", "highest"),
    [
        (BYTES, 255), (BYTES.astype(np.float64), 255), (UNIT, 1), (BYTES > 99, 1), (BYTES % 2, 1),
        (BYTES.astype(np.uint16) * 200, None), (UNIT * 2 - 1, None), (BYTES * 2.0, None),
    ],
)  # fmt: skip
def test_the_range_of_images_is_read_off_their_numbers(tmp_path, images, highest):
    """Was: every float was taken as one to 1, every whole number as one to 255: floats to 255
    became pixels up to 509.
    Right: 0 to 1 or 0 to 255; of another range a new model is not begun."""
    found = pictures(stored(tmp_path / "a.npz", images))
    assert found.highest == highest
    if highest is None:
        with pytest.raises(ValueError, match="from 0 to 1 or from 0 to 255, and some of these lie"):
            ImageProcessor.for_numbers(VitConfig(**SIZE), highest)
    else:
        pixels = ImageProcessor.for_numbers(VitConfig(**SIZE), highest)(list(images))
        assert pixels.min() >= -1 and 0.9 < pixels.max() <= 1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"do_rescale": "false"}, "do_rescale must be true or false, not 'false'"),
        ({"do_normalize": 0}, "do_normalize must be true or false, not 0"),
        ({"rescale_factor": 0}, "rescale_factor must be above 0, not 0"),
        ({"rescale_factor": -1}, "rescale_factor must be above 0"),
        ({"rescale_factor": None}, "rescale_factor must be a number"),
    ],
)
def test_settings_that_are_none(settings, says):
    """Was: "false" was true, and a factor of 0 made every image the same.
    Right: refused by name."""
    with pytest.raises(ValueError, match=says):
        processor(**settings)


def test_training_and_prediction_alike(folder, tmp_path, capsys):
    """Was: finetune, evaluate, distill and predict scaled such images again in silence.
    Right: each says so once, and computes what it computes of the bytes."""
    unit, whole = stored(tmp_path / "unit.npz"), stored(tmp_path / "bytes.npz", BYTES)
    scores = {}
    for data in (unit, whole):
        for command, *more in (("evaluate", *QUICK, "--json"), ("predict", "--json")):
            code, out, warning, _ = ran(capsys, command, "--model", folder, "--data", data, *more)
            assert code == 0 and warning.count("already") == (data == unit)
            scores[command, data == unit] = out
    for command in ("evaluate", "predict"):
        mine, other = (json.loads(scores[command, unit]) for unit in (True, False))
        assert numbers(mine) == pytest.approx(numbers(other), abs=1e-5)
    train = (*QUICK, "--held-out", 2, "--steps", 1, "--out")
    for command, *argv in (
        ("finetune", *TASK, "--model", folder),
        ("distill", "--teacher", folder, "--layers", "0", "--no-baselines"),
    ):
        out = tmp_path / command
        code, _, warning, _ = ran(capsys, command, *argv, "--data", unit, *train, out)
        assert code == 0 and warning.count("already") == 1
        assert json.loads((out / "preprocessor_config.json").read_text())["rescale_factor"] < 0.01
    with pytest.warns(UserWarning, match="already"):
        pipeline("image-classification", folder, backend="numpy")(UNIT[0])


def numbers(found):
    """Every number of an answer, in its order."""
    if isinstance(found, str | int | float):
        return [] if isinstance(found, str) else [found]
    parts = found.values() if isinstance(found, dict) else found
    return [x for part in parts for x in numbers(part)]


def test_a_data_set_is_of_one_range():
    """Was: there was no range.
    Right: it is that of all images together, so that a dark one is not brightened."""
    images = BYTES.astype(np.float32)
    images[0] = images[0] > 99
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = Images([(x, None) for x in images], processor(), Batching(99), names=())
    assert data.pixels[0].max() < -0.99 < 0.9 < data.pixels[1:].max()
