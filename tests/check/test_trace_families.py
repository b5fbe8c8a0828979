"""`trace` of GPT-2, ViT, DeiT and encoder–decoders: each value's gradient against those of the
parameters, and the loss and the values against the model's."""

import numpy as np
import pytest
from safetensors.numpy import load_file
from small import CASES, saved

import minidistil as md
from minidistil.check.families.family import program_of, trace_of
from minidistil.check.reference_batch import load
from minidistil.check.trace_values import trace
from minidistil.cli import main


@pytest.fixture(params=CASES)
def case(request, tmp_path):
    config, task = CASES[request.param]
    folder = saved(md.from_config(config, task=task), tmp_path / "model")
    model = load(folder)
    batch = program_of(model).example(model, folder)
    return folder, model, trace(model, batch)


def given(named, kind):
    """The arrays of one kind, by name."""
    return {n.partition(".")[2]: x for n, x in named.items() if n.startswith(f"{kind}.")}


def test_a_bias_collects_the_gradient_of_what_it_is_added_to(case):
    _, model, named = case
    gradient = given(named, "gradient")
    program = program_of(model)(model, given(named, "input"))
    parameters = program.by_role(model, given(named, "parameter_gradient"))
    largest = max(np.abs(x).max() for x in parameters.values())
    compared = 0
    for role, exact in parameters.items():
        quantity = {
            "embeddings.norm": "embeddings", "decoder": "logits", "patch": "embeddings_patches",
            "classifier": "logits", "cls_classifier": "cls_logits", "enc_to_dec_proj": "memory",
            "distillation_classifier": "distillation_logits",
        }  # fmt: skip
        half = next((h for h in ("encoder.", "decoder.") if role.startswith(h + "e")), "")
        half = half or next((h for h in ("encoder.", "decoder.") if role.startswith(h + "l")), "")
        name = role.removesuffix(".bias").removeprefix(half)
        name = name.removeprefix("decoder.") if "transform" in name else name
        name = quantity.get(name.removeprefix("decoder.") if not half else name, name)
        name = half + name.replace("output_norm", "output")
        if role.endswith(".bias") and name in gradient:
            d = gradient[name]
            np.testing.assert_allclose(
                d.reshape(-1, d.shape[-1]).sum(0), exact, rtol=1e-4, atol=1e-5 * largest
            )
            compared += 1
    assert compared >= sum(role.endswith(".bias") for role in parameters) - 2
    assert set(gradient) == set(given(named, "value")) - {"loss"}


def test_the_loss_and_the_last_values_are_the_model_s(case):
    _, model, named = case
    out = model.forward(**given(named, "input"))
    deit = model.config.model_type == "deit"  # whose training loss is that of two classifiers
    if out.loss is not None and not deit:
        assert named["loss"][0] == pytest.approx(out.loss, rel=1e-5)
    if out.logits is not None:
        np.testing.assert_allclose(named["value.logits"], out.logits, rtol=1e-4, atol=1e-4)
    own = model.backward(out) if out.loss is not None and not deit else {}
    for name, gradient in own.items():
        mine = named[f"parameter_gradient.{name}"]
        np.testing.assert_allclose(mine, gradient, rtol=1e-3, atol=1e-5)


def current(state):
    """The array that a stage hands on, and a function that replaces it in the state."""
    if isinstance(state, np.ndarray):
        return state, lambda x: x
    if state.x is not None:
        return state.x, lambda x: state._replace(x=x)
    if state.memory is not None:
        return state.memory, lambda x: state._replace(memory=x)
    return state.encoder[-1], lambda x: state._replace(encoder=(*state.encoder[:-1], x))


def test_a_gradient_is_a_finite_difference(case):
    """The loss along a random direction of what each stage hands on."""
    _, model, named = case
    gradient, rng = given(named, "gradient"), np.random.default_rng(0)
    program = program_of(model)(model, given(named, "input"))
    for stage in range(1, len(program.stages)):
        values = program.run(stop=stage)
        state = values.pop(None)
        array, replaced = current(state)
        name = next(n for n in reversed(values) if np.array_equal(values[n], array))
        u = rng.normal(size=array.shape) * program.frame.mask_of(array.shape)[:, :, None]

        def loss(step, array=array, replaced=replaced, u=u, stage=stage):
            values = program.run(start=stage, x=replaced(array + step * u))
            return trace_of(model).loss(program, values, values.pop(None))[0]

        slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
        assert slope == pytest.approx(float((gradient[name] * u).sum()), rel=2e-3, abs=1e-6), name


def test_the_command(case, tmp_path, capsys):
    folder, _, named = case
    path, inputs = tmp_path / "trace.safetensors", tmp_path / "inputs.safetensors"
    assert main(["trace", str(folder), "--out", str(path)]) == 0
    assert "value.layer.0.q" in capsys.readouterr().out.replace("encoder.", "")
    stored = load_file(path)
    assert set(stored) == set(named)
    assert all(np.array_equal(stored[name], named[name]) for name in named)
    assert main(["trace", str(folder), "--inputs-only", "--out", str(inputs)]) == 0
    assert set(load_file(inputs)) == {n for n in named if n.startswith("input.")}


def test_texts_and_targets(tmp_path):
    """A text alone has no padding; an encoder-decoder reads pairs."""
    config, task = CASES["pair"]
    folder = saved(md.from_config(config, task=task), tmp_path / "pair")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
    (folder / "vocab.txt").write_text("\n".join(words))
    out = tmp_path / "trace.safetensors"
    command = ["trace", str(folder), "--out", str(out), "--text", "a b c"]
    assert main([*command, "--target", "d"]) == 0
    stored = load_file(out)
    assert stored["input.input_ids"].shape == (1, 5) and stored["input.attention_mask"].all()
    assert stored["input.decoder_input_ids"].tolist() == [[2, words.index("d")]]
    assert main([*command, "--target", "d", "e"]) == 2


def test_images(tmp_path, capsys):
    config, task = CASES["vit"]
    folder = saved(md.from_config(config, task=task), tmp_path / "vit")
    (folder / "preprocessor_config.json").write_text('{"image_mean": 0.5, "image_std": 0.5}')
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 6, 6))
    np.savez(tmp_path / "some.npz", images=images)
    out = tmp_path / "trace.safetensors"
    command = ["trace", str(folder), "--out", str(out)]
    assert main([*command, "--image", str(tmp_path / "some.npz")]) == 0
    pixels = load_file(out)["input.pixel_values"]
    np.testing.assert_allclose(pixels, images[:4] / 127.5 - 1, atol=1e-6)
    assert main([*command, "--text", "a"]) == 2
    assert "reads images, not texts" in capsys.readouterr().err


# ------------------------------------------------------- the same batches for `check`


def checked(folder, *options):
    return main(["check", "--model", str(folder), *map(str, options)])


def test_check_reads_images(tmp_path, capsys):
    """Against a trace of the same images, and, where PyTorch is installed, against a module."""
    config, task = CASES["vit"]
    folder = saved(md.from_config(config, task=task), tmp_path / "vit")
    (folder / "preprocessor_config.json").write_text('{"image_mean": 0.5, "image_std": 0.5}')
    path, theirs = tmp_path / "some.npz", tmp_path / "theirs.safetensors"
    np.savez(path, images=np.random.default_rng(0).integers(0, 256, (5, 2, 6, 6)))
    assert main(["trace", str(folder), "--image", str(path), "--out", str(theirs)]) == 0
    assert checked(folder, "--against-trace", theirs, "--image", path) == 0
    capsys.readouterr()
    assert checked(folder, "--against-trace", theirs) == 2  # other images
    assert "another batch: its pixel_values" in capsys.readouterr().err
    for options, words in (
        (("--text", "a"), "a vit reads images, not texts; give --image"),
        (("--text", "a", "--image", path), "two batches"),
        (("--inputs", theirs, "--image", path), "two batches"),
    ):
        assert checked(folder, "--against-trace", theirs, *options) == 2
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1


def test_check_reads_pairs(tmp_path, capsys):
    config, task = CASES["pair"]
    folder = saved(md.from_config(config, task=task), tmp_path / "pair")
    (folder / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"])
    )
    theirs, pair = tmp_path / "theirs.safetensors", ("--text", "a b c", "--target", "d e")
    assert main(["trace", str(folder), *pair, "--out", str(theirs)]) == 0
    assert checked(folder, "--against-trace", theirs, *pair) == 0
    capsys.readouterr()
    for options, words in (
        (pair[:2], "give a --target for each --text"),
        (pair[2:], "one for each --text"),
        ((*pair, "d"), "one for each --text"),
        (("--image", "digits"), "--image is for vit and deit"),
    ):
        assert checked(folder, "--against-trace", theirs, *options) == 2
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1
        assert main(["trace", str(folder), *options, "--out", str(theirs)]) == 2
        capsys.readouterr()


def test_check_compares_a_module_on_images_and_pairs(tmp_path, capsys):
    pytest.importorskip("transformers")
    for name, options in (
        ("vit", ("--image", tmp_path / "some.npz")), ("pair", ("--text", "a b", "--target", "d")),
    ):  # fmt: skip
        config, task = CASES[name]
        folder = saved(md.from_config(config, task=task), tmp_path / name)
        (folder / "preprocessor_config.json").write_text('{"image_mean": 0.5, "image_std": 0.5}')
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
        (folder / "vocab.txt").write_text("\n".join(words))
        np.savez(tmp_path / "some.npz", images=np.full((2, 2, 6, 6), np.arange(6) * 50))
        assert checked(folder, *options) == 0, capsys.readouterr()
        assert "agree: " in capsys.readouterr().out
