"""The repr of a model, its parameters, an output and a step: shapes and counts, no array."""

import numpy as np
import pytest

import minidistil as md
from minidistil import BertConfig, VitConfig

BERT = BertConfig(
    40, 16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
    max_position_embeddings=300,
)  # fmt: skip
VIT = VitConfig(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=8,
    patch_size=4,
)  # fmt: skip


def fits(thing):
    """The repr, which must fit on a screen and hold no array."""
    text = repr(thing)
    assert len(text.splitlines()) <= 12 and max(map(len, text.splitlines())) <= 130
    assert "[" not in text and "array(" not in text and "dtype" not in text
    return text


@pytest.fixture(scope="module")
def teacher():
    return md.from_config(BERT, "fill-mask", backend="numpy")


def test_a_model_and_its_parameters(teacher):
    text = fits(teacher)
    total = sum(p.size for p in teacher.params.values())
    assert text.startswith("Model: bert for fill-mask, float32 on numpy, params ")
    assert f"{len(teacher.params)} arrays of {total:,} entries" in text
    assert f"… and {len(teacher.params) - 5} more" in text
    assert "bert.embeddings.word_embeddings.weight (40, 16)" in fits(teacher.params)


def test_a_vision_model():
    text = fits(md.from_config(VIT, "image-classification", backend="numpy"))
    assert text.startswith("VisionModel: vit for image-classification")


def test_a_step_and_an_output(teacher):
    """Was: the step's gradients printed all their entries, the output all its logits."""
    ids = np.arange(1, 201).reshape(1, 200) % 39 + 1
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": ids}
    student = md.student_from(teacher, layers=(0, 2))
    step = md.distill_step(student, teacher, batch, md.DistillConfig())
    assert fits(step).startswith(f"Step: loss {step.loss:.4f} (ce {step.parts['ce']:.4f}, ")
    assert f"grads {len(step.grads)} arrays" in fits(step)
    out = teacher.forward(**batch, hidden_states=True, taps=("layer.0.q",))
    text = fits(out)
    assert "logits (1, 200, 40)" in text and "hidden_states 4 arrays (1, 200, 16)" in text
    assert "taps layer.0.q (1, 200, 16)" in text and f"loss {out.loss:.4f}" in text
    assert "kept" not in text and "sop" not in text
