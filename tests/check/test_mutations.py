"""Random single-line mutations of two independent modules: every one that changes an output or a
gradient is found, and none that changes nothing is accused."""

from pathlib import Path

import pytest

import minidistil as md

torch = pytest.importorskip("torch")
from mutations import loaded, mutate  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from small import CONFIG  # noqa: E402

from minidistil.check.program import Program  # noqa: E402
from minidistil.check.reference_batch import load  # noqa: E402

pytestmark = [pytest.mark.usefixtures("calm"), pytest.mark.filterwarnings("ignore")]
SOURCES = {name: Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
           for name in ("own_torch", "own_sequence_first")}  # fmt: skip
CLOSE = 1e-9


def answers(module, batches):
    """Outputs at real tokens and gradients in float64, batch after batch."""
    module = module.eval().double()
    found = []
    for batch in batches:
        ids, mask = (torch.as_tensor(batch[n]) for n in ("input_ids", "attention_mask"))
        out = module(ids, mask)
        if out.shape[:2] != ids.shape:
            raise ValueError("another shape")
        real = out[mask.bool()]
        weight = torch.sin(torch.arange(real.numel())).view(real.shape)
        grads = torch.autograd.grad((real * weight).sum(), list(module.parameters()),
                                    allow_unused=True)  # fmt: skip
        found += [real.detach(), *(torch.zeros(1) if g is None else g for g in grads)]
    return found


def same(a, b):
    return all(
        x.shape == y.shape and torch.allclose(x, y, rtol=CLOSE, atol=CLOSE)
        for x, y in zip(a, b, strict=True)
    )


def outcome(name, seed, folder, batches, right):
    """(what is mutated, whether it changes anything or fails, the Report)."""
    said, source = mutate(SOURCES[name], seed)
    state = load_file(folder / "model.safetensors")
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        different = not same(answers(loaded(source).build(state, CONFIG.n_heads), batches), right)
    except Exception:  # a mutation that does not run
        return said, None, None
    finally:
        torch.set_default_dtype(default)
    return said, different, md.check.compare(loaded(source).build(state, CONFIG.n_heads), folder)


@pytest.mark.parametrize("name", SOURCES)
def test_mutations(name, folder):
    model, state = load(folder), load_file(folder / "model.safetensors")
    batches = Program.examples(model, folder)
    module = loaded(SOURCES[name]).build(state, CONFIG.n_heads)
    assert md.check.compare(module, folder).code == 0
    torch.set_default_dtype(torch.float64)
    try:
        right = answers(loaded(SOURCES[name]).build(state, CONFIG.n_heads), batches)
    finally:
        torch.set_default_dtype(torch.float32)
    for seed in range(12):
        said, different, report = outcome(name, seed, folder, batches, right)
        if different is None:
            continue
        assert (report.code != 0) == different, f"{said}\n{report.text()}"
