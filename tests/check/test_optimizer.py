"""Optimisers as people make them in PyTorch, right and with every mistake planted."""

import pytest

import minidistil as md

torch = pytest.importorskip("torch")
from minidistil.cli import main  # noqa: E402


def groups(model, weight_decay, spared=lambda name, p: p.ndim < 2):
    named = list(model.named_parameters())
    return [
        {"params": [p for n, p in named if not spared(n, p)], "weight_decay": weight_decay},
        {"params": [p for n, p in named if spared(n, p)], "weight_decay": 0.0},
    ]


def ramp(warmup, total, shift=0):
    def factor(step):
        step = step + shift
        return step / warmup if step < warmup else max(0, (total - step) / (total - warmup))

    return factor


def make(kind=torch.optim.AdamW, spared=lambda name, p: p.ndim < 2, clip="all", shift=0):
    """A function that makes what a training loop does after backward."""

    def training(model, lr, betas, eps, weight_decay, max_grad_norm, warmup_steps, total_steps):
        optimizer = kind(groups(model, weight_decay, spared), lr=lr, betas=betas, eps=eps)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, ramp(warmup_steps, total_steps, shift)
        )
        params = list(model.parameters())

        def update():
            if clip == "all":
                torch.nn.utils.clip_grad_norm_(params, max_grad_norm)
            elif clip == "each":
                for p in params:
                    torch.nn.utils.clip_grad_norm_(p, max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()

        return update

    return training


class BertAdam(torch.optim.Optimizer):
    """Adam as the first BERT had it: without the correction of its means."""

    def __init__(self, params, lr, betas, eps):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                state = self.state.setdefault(p, {})
                m = state["m"] = b1 * state.get("m", 0) + (1 - b1) * p.grad
                v = state["v"] = b2 * state.get("v", 0) + (1 - b2) * p.grad**2
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * m / (v.sqrt() + group["eps"]))


def by_name(name, p):
    return "bias" in name or "LayerNorm.weight" in name


PLANTED = {
    "adam-for-adamw": {"kind": torch.optim.Adam},
    "adam-no-bias-correction": {"kind": BertAdam},
    "decay-on-layernorm": {"spared": lambda name, p: False},
    "decay-on-layernorm:names": {"spared": by_name},
    "clip-per-tensor": {"clip": "each"},
    "clip-missing": {"clip": "none"},
    "warmup-off-by-one": {"shift": 1},
}


def test_a_right_optimiser_is_not_accused():
    report = md.check.compare_optimizer(make())
    assert (report.verdict, report.diagnosis) == ("agree", []), report.text()
    assert [row.name for row in report.rows] == [f"step.{t}" for t in range(1, 11)]


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_mistake_is_named(bug):
    report = md.check.compare_optimizer(make(**PLANTED[bug]))
    assert report.verdict == "differ"
    assert [d.id for d in report.diagnosis] == [bug.split(":")[0]], report.text()
    assert "test_optimizer.py" in report.where


def test_a_bare_optimiser_brings_its_own_numbers():
    def mine(model):
        return torch.optim.AdamW(groups(model, 0.03), lr=0.01, betas=(0.8, 0.95))

    assert md.check.compare_optimizer(mine).verdict == "agree"

    def pair(model, lr, warmup_steps, total_steps):
        optimizer = torch.optim.AdamW(groups(model, 0.0), lr=lr)
        return optimizer, torch.optim.lr_scheduler.LambdaLR(
            optimizer, ramp(warmup_steps, total_steps)
        )

    assert md.check.compare_optimizer(pair).verdict == "agree"

    def everything_decays(params):
        return torch.optim.AdamW(params, lr=0.01)

    report = md.check.compare_optimizer(everything_decays)
    assert [d.id for d in report.diagnosis] == ["decay-on-layernorm"]


class OwnAdam(torch.optim.Optimizer):
    """AdamW with a mistake, given as a function (p, g, m, v, t, lr, decay) -> None."""

    def __init__(self, params, lr, betas, eps, weight_decay, bug):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self.bug = bug

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            b1, b2 = group["betas"]
            if self.bug == "betas-swapped":
                b1, b2 = b2, b1
            lr, decay = group["lr"], group["weight_decay"]
            shrink = decay if self.bug == "decay-without-lr" else lr * decay
            for p in group["params"]:
                state = self.state.setdefault(p, {})
                t = state["t"] = state.get("t", 0) + 1
                m = state["m"] = b1 * state.get("m", 0) + (1 - b1) * p.grad
                v = state["v"] = b2 * state.get("v", 0) + (1 - b2) * p.grad**2
                t += self.bug == "step-from-zero"
                if self.bug != "decay-after-step":
                    p.mul_(1 - shrink)
                p.sub_(lr * m / (1 - b1**t) / ((v / (1 - b2**t)).sqrt() + group["eps"]))
                if self.bug == "decay-after-step":
                    p.mul_(1 - shrink)


OWN = ("betas-swapped", "decay-without-lr", "decay-after-step", "step-from-zero")


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("bug", [None, *OWN, "amsgrad", "adam-nesterov"])
def test_more_mistakes_also_with_decay_on_everything(bug, everything):
    def mine(model, lr, betas, eps, weight_decay):
        spared = (lambda name, p: False) if everything else (lambda name, p: p.ndim < 2)
        some = groups(model, weight_decay, spared)
        if bug == "amsgrad":
            return torch.optim.AdamW(some, lr=lr, betas=betas, eps=eps, amsgrad=True)
        if bug == "adam-nesterov":
            return torch.optim.NAdam(some, lr=lr, betas=betas, eps=eps,
                                     decoupled_weight_decay=True)  # fmt: skip
        return OwnAdam(some, lr, betas, eps, weight_decay, bug)

    report = md.check.compare_optimizer(mine)
    ids = ["decay-on-layernorm"] * everything + [bug] * (bug is not None)
    assert [d.id for d in report.diagnosis] == ids, report.text()
    assert report.code == bool(ids)
    assert "not compared: clipping, as make takes no max_grad_norm; the schedule" in report.text()


def test_groups_of_their_own_rates():
    def mine(model):
        named = list(model.named_parameters())
        return torch.optim.AdamW([
            {"params": [p for n, p in named if p.ndim > 1], "lr": 0.02, "weight_decay": 0.1},
            {"params": [p for n, p in named if p.ndim < 2], "lr": 0.01, "weight_decay": 0.0,
             "betas": (0.8, 0.9)},
        ])  # fmt: skip

    assert md.check.compare_optimizer(mine).code == 0


def test_two_mistakes_at_once():
    report = md.check.compare_optimizer(make(clip="none", spared=lambda name, p: False))
    assert {d.id for d in report.diagnosis} == {"clip-missing", "decay-on-layernorm"}
    assert all("together" in d.evidence for d in report.diagnosis)


def test_what_is_unknown_is_not_named():
    report = md.check.compare_optimizer(lambda params: torch.optim.SGD(params, lr=0.1))
    assert (report.verdict, report.diagnosis) == ("differ", [])
    with pytest.raises(ValueError, match="must return an optimiser"):
        md.check.compare_optimizer(lambda params: 3)
    with pytest.raises(ValueError, match="not recognised"):
        md.check.compare_optimizer(lambda banana: 3)


def test_the_command(capsys, tmp_path, folder):
    path = tmp_path / "mine.py"
    path.write_text(
        "import torch\n"
        "def loss(student_logits, teacher_logits, attention_mask, temperature):\n"
        "    m = attention_mask.bool()\n"
        "    p = (student_logits[m] / temperature).log_softmax(-1)\n"
        "    q = (teacher_logits[m] / temperature).softmax(-1)\n"
        "    return torch.nn.functional.kl_div(p, q, reduction='batchmean')\n"
        "def make(model):\n"
        "    return torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0)\n"
    )
    argv = ["check", "--model", str(folder), "--loss", f"{path}:loss", "--optimizer"]
    assert main([*argv, f"{path}:make"]) == 1
    out = capsys.readouterr().out
    assert "kl-tau-squared-missing" in out and "step.10" in out and "mine.py:2 in loss" in out
    assert main([*argv[:3], "--optimizer", f"{path}:make"]) == 0
    assert main([*argv[:3], "--loss", f"{path}:nothing"]) == 2
