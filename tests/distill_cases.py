"""Pairs of a teacher and a student, and what the original distiller makes of them in PyTorch."""

from model_cases import CASES, LARGE, Case, batch_of, fields, model_of, torch_inputs, torch_model

CONFIGS = {
    "default": {},
    "restricted": {"restrict_ce_to_mask": True},
    "mse": {"alpha_mse": 0.3},
    "mse-restricted": {"alpha_mse": 0.3, "restrict_ce_to_mask": True},
    "cold": {"temperature": 1.0},
    "hot": {"temperature": 7.5, "alpha_ce": 0.5},
    "ce": {"alpha_mlm": 0.0, "alpha_cos": 0.0},
    "mlm": {"alpha_ce": 0.0, "alpha_cos": 0.0},
    "cos": {"alpha_ce": 0.0, "alpha_mlm": 0.0},
    "cos-mse": {"alpha_ce": 0.0, "alpha_mlm": 0.0, "alpha_mse": 1.0},
}
STORED = ("default", "mse-restricted")
BERT, STUDENT = CASES["bert-mlm"], CASES["distilbert-mlm"]
CLASSES = Case("distilbert", "text-classification", {"labels": 3})


def pair(teacher=BERT, student=STUDENT, size=LARGE, backend="cpu"):
    """A teacher, a student with fewer layers and other weights, a batch with token types."""
    return (
        model_of(teacher, size, seed=1, backend=backend),
        model_of(student, size | {"L": 2}, seed=2, backend=backend),
        batch_of(teacher, size),
    )


def distiller(student, teacher, size, cases, batch, config, dtype):
    """The step of the original script, from its description.

    Returns {"loss", "part.NAME", "grad.NAME": array}.
    """
    import torch
    from torch import nn

    theirs = torch_model(teacher, fields(cases[0], size), dtype)
    mine = torch_model(student, fields(cases[1], size | {"L": 2}), dtype)
    inputs = torch_inputs(batch)
    labels = inputs.pop("labels", None)
    mask = inputs["attention_mask"].bool()
    with torch.no_grad():
        t = theirs(**inputs, output_hidden_states=True)
    inputs.pop("token_type_ids", None)
    s = mine(**inputs, output_hidden_states=True)

    s_logits, t_logits = s.logits, t.logits
    if s_logits.ndim == 3:
        wanted = labels != -100 if config.restrict_ce_to_mask else mask
        s_logits, t_logits = s_logits[wanted], t_logits[wanted]
    tau, parts = config.temperature, {}
    kl = nn.KLDivLoss(reduction="batchmean")
    soft = kl(torch.log_softmax(s_logits / tau, -1), torch.softmax(t_logits / tau, -1))
    parts["ce"] = soft * tau**2
    hard = nn.CrossEntropyLoss(ignore_index=-100)
    if labels is not None:
        kind = "mlm" if s.logits.ndim == 3 else "hard"
        parts[kind] = hard(s.logits.flatten(0, -2), labels.flatten())
    parts["mse"] = nn.MSELoss(reduction="sum")(s_logits, t_logits) / len(s_logits)
    h_s, h_t = s.hidden_states[-1][mask], t.hidden_states[-1][mask]
    parts["cos"] = nn.CosineEmbeddingLoss()(h_s, h_t, torch.ones(len(h_s), dtype=h_s.dtype))
    alphas = {name: getattr(config, f"alpha_{name}") for name in parts}
    loss = sum(alphas[name] * part for name, part in parts.items() if alphas[name])
    loss.backward()
    numbers = {"loss": loss} | {f"part.{n}": part for n, part in parts.items() if alphas[n]}
    grads = {n: p.grad for n, p in mine.named_parameters() if p.grad is not None}
    numbers |= {f"grad.{n}": g for n, g in grads.items()}
    return {name: x.detach().numpy() for name, x in numbers.items()}
