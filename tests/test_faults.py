"""Before trusting a test, break the code and see it fail: every fault here must be caught.

A fault is a replacement in the source of one or two functions, made while the test runs. Each is
one that somebody has made somewhere. A kernel that is broken runs as plain Python.
"""

import ast
import inspect
from typing import NamedTuple

import numpy as np
import op_checks
import pytest
from distill_cases import CONFIGS, pair
from model_cases import (
    ADAMW,
    CASES,
    SMALL,
    STEPS,
    assert_same_formula,
    batch_of,
    exact,
    model_of,
    read,
    unpack,
)
from op_cases import cases_of, is_plain, stored_cases

import minidistil as md
from minidistil.distill import step, triple_loss
from minidistil.model import encoder, heads, network, rows
from minidistil.ops import (
    adamw,
    add_layernorm,
    attention,
    binary_cross_entropy,
    cosine,
    cross_entropy,
    dropout,
    embedding,
    gelu,
    kl_div,
    layernorm,
    linear,
    linear_gelu,
    mae,
    mse,
    relu,
    softmax,
    tanh,
    vocabulary,
    weighted_cross_entropy,
)
from minidistil.testing import check_backward, rms
from minidistil.train import AdamW, optimizer

# ---------------------------------------------------------------- checks, by what they look at


def of_op(check):
    """The check on every case of the op that the fault is in."""

    def checks(module):
        op = module.__name__.rpartition(".")[2]
        for case in cases_of(op):
            if check is not op_checks.transpose or is_plain(case):
                check(case)

    return checks


transpose, backends, nan, untouched = map(
    of_op,
    (
        op_checks.transpose,
        op_checks.backends_agree,
        op_checks.nan_spreads,
        op_checks.leaves_arguments,
    ),
)


def parity(module):
    """PyTorch's stored numbers for the op."""
    op = module.__name__.rpartition(".")[2]
    for case in stored_cases():
        if case.op == op:
            op_checks.parity(*op_checks.stored(case))


def restored(name):
    """The stored model of a case in float64, its batch and PyTorch's float64 numbers."""
    kinds = read(name)
    mine = model_of(CASES[name], SMALL)
    mine.update(unpack(kinds["weight"])[0])
    return exact(mine), kinds["in"], unpack(kinds["out"])[1]


def assert_gradients(grads, truth):
    largest = max(rms(x) for name, x in truth.items() if name.startswith("grad."))
    for name, g in grads.items():
        if f"grad.{name}" in truth:
            assert_same_formula(name, g, truth[f"grad.{name}"], largest)


def model_parity(_, names=("bert-mlm", "bert-pretraining", "distilbert-mlm", "distilbert-single")):
    """Loss, hidden states and gradients of whole models as PyTorch's in float64."""
    for name in names:
        mine, batch, truth = restored(name)
        out = mine.forward(**batch, hidden_states=True)
        real = batch["attention_mask"] == 1
        for i, h in enumerate(out.hidden_states):
            assert_same_formula(f"hidden state {i}", h[real], truth[f"hidden_states.{i}"][real])
        assert_same_formula("loss", out.loss, truth["loss"])
        assert_gradients(mine.backward(out), truth)


def model_transpose(_, names=("bert-mlm", "distilbert-single")):
    """The gradient of a training loss against its central difference."""
    for name in names:
        mine, batch = exact(model_of(CASES[name], SMALL)), batch_of(CASES[name], SMALL)
        params = list(mine.params)

        def forward(*args, mine=mine, batch=batch, params=params):
            mine.update(dict(zip(params, args, strict=True)))
            out = mine.forward(**batch, train=True, seed=3)
            return out.loss, out

        def backward(u, out, mine=mine, params=params):
            grads = mine.backward(out)
            return [u * grads[name] for name in params]

        args = list(mine.params.values())
        check_backward(forward, backward, args, np.random.default_rng(0), tol=1e-6)


def family_parity(_):
    """The same of RoBERTa and ALBERT."""
    model_parity(_, ("roberta-mlm", "roberta-single", "albert-mlm", "albert-pretraining"))


def trajectory(_):
    """Ten steps of AdamW as PyTorch's in float64."""
    mine, batch, truth = restored("distilbert-single")
    adam = AdamW(mine.params, backend="numpy", **ADAMW)
    adam.update_all = adamw.update_all
    for _ in range(STEPS):
        mine.update(adam.step(mine.backward(mine.forward(**batch))))
    for name, p in mine.params.items():
        assert_same_formula(name, p, truth[f"after.{name}"])


def distillation(_):
    """Steps of distillation as the original distiller's in float64."""
    for name in ("default", "mse-restricted"):
        kinds = read(f"distill-{name}")
        teacher, student, _ = pair(size=SMALL)
        teacher.update(unpack(kinds["teacher"])[0])
        student.update(unpack(kinds["student"])[0])
        config = md.DistillConfig(**CONFIGS[name])
        result = md.distill_step(exact(student), exact(teacher), kinds["in"], config)
        truth = unpack(kinds["out"])[1]
        assert result.loss == pytest.approx(float(truth["loss"]), rel=1e-9)
        assert_gradients(result.grads, truth)


# ---------------------------------------------------------------- faults


class Fault(NamedTuple):
    """What is wrong, who must notice, where, and the replacements: (function, old, new), …"""

    what: str
    check: object
    module: object
    changes: tuple

    def __str__(self):
        return f"{self.module.__name__.removeprefix('minidistil.')}: {self.what}"


def fault(what, check, module, *changes):
    return Fault(what, check, module, changes)


FAULTS = [
    # backward is not the transpose
    fault("γ missing in dx", transpose, layernorm, ("backward", "gamma * dy", "dy")),
    fault("mean dropped", transpose, layernorm, ("backward", "dxhat - along_one", "dxhat")),
    fault("x̂ dropped", transpose, layernorm, ("backward", " - xhat * along_xhat", "")),
    fault("γ twice in dγ", transpose, layernorm, ("backward", "(dy * xhat)", "(dxhat * xhat)")),
    fault("only the diagonal", transpose, softmax,
          ("backward", "(dy - (dy * y).sum(axis=-1, keepdims=True))", "dy")),
    fault("repeats lost", transpose, embedding,
          ("backward", "np.add.at(dtable, ids[trained], dy[trained])",
           "dtable[ids[trained]] += dy[trained]")),
    fault("bias of one row", transpose, linear, ("backward", "sum_of_rows(dy)", "dy[0]")),
    fault("no x·φ", transpose, gelu, ("backward", "Phi + x * phi", "Phi")),
    fault("activation's gradient skipped", transpose, linear_gelu,
          ("backward", "gelu.backward(dy, activation)", "(dy,)")),
    fault("one term's gradient lost", transpose, add_layernorm,
          ("backward", "return ds, ds,", "return ds, 0 * ds,")),
    fault("1 − y", transpose, tanh, ("backward", "1 - y * y", "1 - y")),
    fault("backward not rescaled", transpose, dropout,
          ("backward", "mask(cache, dy.shape[1])", "(mask(cache, dy.shape[1]) > 0)")),
    fault("another mask on the way back", transpose, dropout,
          ("backward", "mask(cache,", "mask(cache._replace(step=cache.step + 1),")),
    fault("scores' gradient not scaled", transpose, attention,
          ("backward", " / math.sqrt(qh.shape[2])", "")),
    fault("dropout missing in da", transpose, attention, ("backward", "m * (dyh", "(dyh")),
    fault("dropout missing in dv", transpose, attention, ("backward", "(a * m)", "a")),
    fault("a look at the next word", parity, attention,
          ("Pattern", "T_k - T_q if self.causal", "T_k - T_q + 1 if self.causal")),
    fault("1/τ missing in dz", transpose, kl_div, ("backward", " / tau", "")),
    fault("1 + cos", transpose, cosine, ("forward", "1 - cos", "1 + cos")),
    fault("only towards the target", transpose, cosine,
          ("backward", " - a * (cos / A)[:, None]", "")),
    fault("2 missing", transpose, mse, ("backward", "2 * dy", "dy")),
    fault("the error for its sign", transpose, mae, ("backward", "np.sign(error)", "error")),
    fault("smoothing only on the way there", transpose, weighted_cross_entropy,
          ("backward", " - soft * w\n", "\n")),
    # forward and backward agree with each other, and not with PyTorch
    fault("τ for τ²", parity, kl_div, ("_weight", "tau**2", "tau")),
    fault("teacher and student swapped", parity, kl_div,
          ("forward", "log_p_s, log_p_t =", "log_p_t, log_p_s =")),
    fault("all rows", parity, kl_div, ("forward", "selected(mask", "selected(None")),
    fault("mean over rows alone", parity, kl_div, ("divisor", "rows * columns", "rows")),
    fault("ε outside the root", parity, layernorm,
          ("forward", "np.sqrt(var + eps)", "(np.sqrt(var) + eps)")),
    fault("variance of a sample", parity, layernorm,
          ("forward", "((x - mu) ** 2).mean(axis=1, keepdims=True)",
           "x.var(axis=1, ddof=1, keepdims=True)")),
    fault("padding trained", parity, embedding,
          ("backward", "ids != padding_id if padding_id is not None else", "")),
    fault("tanh for erf", parity, gelu, ("_distribution", 'approximate == "tanh"', "True")),
    fault("√C for √D", parity, attention,
          ("forward", "math.sqrt(qh.shape[2])", "math.sqrt(q.shape[1])"),
          ("backward", "math.sqrt(qh.shape[2])", "math.sqrt(q.shape[1])")),
    fault("heads interleaved", parity, attention,
          ("split_heads", "x.reshape(len(x), n_heads, -1).swapaxes(0, 1)",
           "x.reshape(len(x), -1, n_heads).transpose(2, 0, 1)"),
          ("merge_heads", "x.swapaxes(0, 1).reshape(", "x.transpose(1, 2, 0).reshape(")),
    fault("divided by all rows", parity, cross_entropy,
          ("forward", "picked.mean()", "picked.sum() / len(logits)"),
          ("backward", "dy / len(kept)", "dy / N")),
    fault("sum over classes", parity, binary_cross_entropy,
          ("forward", ".mean(dtype=logits.dtype)", ".sum() / len(logits)"),
          ("backward", "logits.size", "len(logits)")),
    # kernels that leave the specification
    fault("last rows of a chunk lost", backends, layernorm,
          ("_backward_chunks", "range(k * N // CHUNKS, (k + 1) * N // CHUNKS)",
           "range(k * (N // CHUNKS), (k + 1) * (N // CHUNKS))")),
    fault("repeats lost in the kernel", backends, embedding,
          ("_scatter_rows", "total[c] += dy", "total[c] = dy")),
    fault("a row's number for its column", backends, dropout,
          ("_mask_rows", "np.uint32(column[n])", "np.uint32(n)")),
    fault("last channels never drawn", backends, dropout,
          ("_mask_rows", "range((C + 3) // 4)", "range(C // 4)")),
    fault("the row's top not undone", backends, cross_entropy,
          ("_forward_rows", "label], top, total)", "label], 0 * top, total)")),
    # what a NaN, and the caller's arrays, go through
    fault("NaN taken for 0", nan, relu,
          ("_forward_rows", "np.float32(0) if x[n, c] < 0 else x[n, c]",
           "x[n, c] if x[n, c] > 0 else np.float32(0)")),
    fault("NaN of the teacher taken for 0", nan, kl_div,
          ("forward", "(p_t * log_ratio)", "np.where(p_t > 0, p_t * log_ratio, 0)")),
    fault("the cotangent overwritten", untouched, tanh,
          ("backward", "(dy * (1 - y * y),)", "(np.multiply(dy, 1 - y * y, out=dy),)")),
    # whole models
    fault("residual dropped", model_parity, encoder,
          ("attention_sublayer", "x, o, *of(", "0 * x, o, *of(")),
    fault("residual's gradient dropped", model_transpose, encoder,
          ("ffn_sublayer_backward", "plus(du, du_ffn, ops)", "plus(None, du_ffn, ops)")),
    fault("feed-forward without its residual", model_parity, encoder,
          ("ffn_sublayer", "u, f, *of(", "0 * u, f, *of(")),
    fault("q and k swapped", model_parity, encoder,
          ("self_attention", "q, k, v, bounds", "k, q, v, bounds")),
    fault("dropout's gradient skipped", model_transpose, encoder,
          ("feed_forward_backward", "drop_backward(df, cache.dropped, ops)", "df")),
    fault("sequences see each other", model_parity, encoder,
          ("self_attention", "bounds=context.bounds", "bounds=context.bounds[[0, -1]]")),
    fault("token types ignored", model_parity, encoder,
          ("embed", "ids=rows.types", "ids=rows.types * 0")),
    fault("positions count tokens, not columns", model_parity, encoder,
          ("embed", "ids=rows.position", "ids=(rows.mask.cumsum(axis=1) - 1)[rows.mask]")),
    fault("RoBERTa's positions count what is not masked", family_parity, encoder,
          ("embed", "ids=rows.position", "ids=(rows.mask.cumsum(axis=1) + 1)[rows.mask]")),
    fault("RoBERTa's padding counted", family_parity, rows,
          ("_positions", "ids != padding", "ids == ids")),
    fault("a position of padding trained", family_parity, encoder,
          ("embed", "padding_id=a.padding_position", "padding_id=None")),
    fault("a block's gradient from its first turn alone", family_parity, encoder,
          ("stack_backward", "ops.place.accumulate(d[name], grad)", "d[name] = grad")),
    fault("a block's gradient from its last turn alone", family_parity, encoder,
          ("stack_backward", "ops.place.accumulate(d[name], grad)", "pass")),
    fault("mapping's gradient skipped", family_parity, encoder,
          ("embed_backward", "ops.linear.backward(dx, mapping)",
           "(ops.linear.backward(dx, mapping)[0], 0 * mapping[1], 0 * mapping[1][:, 0])")),
    fault("tied gradient: projection only", model_transpose, network,
          ("backward", "blocks, dword) | grads",
           'blocks) | grads | {"embeddings.word.weight": dword}')),
    fault("tied gradient: look-up only", model_transpose, network,
          ("backward", "blocks, dword) | grads", "blocks) | grads")),
    fault("the last token pooled", model_parity, heads,
          ("pool", "context.bounds[:-1]", "context.bounds[1:] - 1")),
    fault("another activation in the head", model_parity, heads,
          ("mlm_transform", "a.transform_activation, context", "\"relu\", context")),
    # optimiser and distillation
    fault("no bias correction", trajectory, adamw,
          ("update", "lr / (1 - beta1**step)", "lr")),
    fault("ε under the root", trajectory, adamw,
          ("update", "np.sqrt(v) / math.sqrt(1 - beta2**step) + eps",
           "np.sqrt(v / (1 - beta2**step) + eps)")),
    fault("decay through the moments", trajectory, adamw,
          ("update", "new = p * (1 - lr * weight_decay)", "new, g = p, g + weight_decay * p")),
    fault("biases decay", trajectory, optimizer, ("decayed", "p.ndim >= 2", "p.ndim >= 1")),
    fault("temperature not passed on", distillation, triple_loss,
          ("losses", "tau=soft.tau", "tau=1.0")),
    fault("the weight of ce missing in its gradient", distillation, triple_loss,
          ("losses", "alphas.ce * soft.factor", "1.0")),
    fault("hidden states of the embeddings", distillation, triple_loss,
          ("losses", "student.hidden[-1], teacher.hidden[-1]",
           "student.hidden[0], teacher.hidden[-1]")),
    fault("restriction ignored", distillation, step,
          ("_selected_rows", " and not config.restrict_ce_to_mask", "")),
    fault("logits' error by classes too", parity, vocabulary,
          ("composed", '"reduction": "batchmean"', '"reduction": "mean"')),
    fault("the losses' weights missing in the gradient", parity, vocabulary,
          ("composed", "x.dtype.type(alpha)", "x.dtype.type(1)")),
]  # fmt: skip


def plain(function):
    """The function behind a kernel, as Python."""
    return getattr(function, "py_func", function)


def replace(monkeypatch, module, changes):
    """Put changed functions into a module, as long as the test runs."""
    for name, old, new in changes:
        source = inspect.getsource(plain(getattr(module, name)))
        assert old in source, f"{module.__name__}.{name} no longer says {old!r}"
        tree = ast.parse(source.replace(old, new))
        tree.body[0].decorator_list.clear()
        monkeypatch.setattr(module, name, None)  # remembers what to put back
        exec(compile(tree, f"<faulty {name}>", "exec"), vars(module))


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_is_caught(fault, monkeypatch):
    replace(monkeypatch, fault.module, fault.changes)
    with pytest.raises(AssertionError):
        fault.check(fault.module)


def harmless():
    """Each check and the functions that its faults change, without the change."""
    changed = {}
    for f in FAULTS:
        names = changed.setdefault((f.check, f.module), {})
        names |= {name: (name, old, old) for name, old, _ in f.changes}
    return [fault("as it is", check, module, *names.values())
            for (check, module), names in changed.items()]  # fmt: skip


@pytest.mark.parametrize("fault", harmless(), ids=str)
def test_the_same_surgery_without_a_fault_passes(fault, monkeypatch):
    """So it is the fault that is caught, not the surgery."""
    replace(monkeypatch, fault.module, fault.changes)
    fault.check(fault.module)


def test_functions_are_put_back():
    assert layernorm.backward.__code__.co_filename == layernorm.__file__
