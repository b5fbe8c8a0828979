"""transformers' modules on PyTorch, with the parameters of one of our models.

They read the folder that `save_pretrained` writes, so the same names, shapes and bits compute.
"""

import os
import warnings

import numpy as np


def encoder(folder, attention, dtype="float32"):
    """The body in a folder  ->  a function from ids, mask (B,T) to the last hidden state (B,T,C).

    attention: "eager" (products and softmax one after another) or "sdpa" (one fused kernel).
    dtype: "float32"; "bfloat16", weights and everything between; "int8", the Linear layers with
    PyTorch's dynamic quantisation.
    """
    torch, transformers = _import()
    module = _load(transformers.AutoModel, folder, attention, torch.float32)
    if dtype == "bfloat16":
        module = module.to(torch.bfloat16)
    elif dtype == "int8":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it announces its successor, a package of its own
            quantize = torch.ao.quantization.quantize_dynamic
            module = quantize(module, {torch.nn.Linear}, dtype=torch.qint8)

    def run(ids, mask):
        with torch.inference_mode():
            ids, mask = torch.from_numpy(ids), torch.from_numpy(mask)
            return module(input_ids=ids, attention_mask=mask).last_hidden_state.float().numpy()

    return run


class TorchDistillation:
    """Hugging Face's step for DistilBERT: both models on the padded batch, the triple loss on what
    the mask selects from (B,T,V) logits, gradients, clipping, AdamW.

    `distillation(batch, train)` takes one and returns loss and gradient norm. train: with dropout,
    as the distiller does; without, two implementations compute the same numbers.
    settings: temperature, alpha_ce, alpha_mlm, alpha_cos, lr, betas, eps, weight_decay,
    max_grad_norm.
    """

    def __init__(self, student, teacher, attention, settings, teacher_dtype="float32"):
        self.torch, transformers = _import()
        kind, float32 = transformers.AutoModelForMaskedLM, self.torch.float32
        self.student = _load(kind, student, attention, float32)
        self.teacher = _load(kind, teacher, attention, float32)
        self.teacher.to(getattr(self.torch, teacher_dtype)).requires_grad_(False)
        self.settings, s = settings, settings
        self.optimizer = self.torch.optim.AdamW(
            self.student.parameters(), lr=s["lr"], betas=s["betas"], eps=s["eps"],
            weight_decay=s["weight_decay"],
        )  # fmt: skip

    def __call__(self, batch, train):
        torch = self.torch
        self.student.train(train)
        batch = {name: torch.from_numpy(array) for name, array in batch.items()}
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        mine = self.student(**inputs, output_hidden_states=True)
        with torch.no_grad():
            theirs = self.teacher(**inputs, output_hidden_states=True)
        loss = self._loss(mine, theirs, batch["attention_mask"].bool(), batch["labels"])
        self.optimizer.zero_grad()
        loss.backward()
        limit = self.settings["max_grad_norm"]
        exact = None if train else self._norm()
        norm = torch.nn.utils.clip_grad_norm_(self.student.parameters(), limit).item()
        self.optimizer.step()
        return np.array([loss.item(), norm if train else exact])

    def _norm(self):
        """The gradients' length, summed in float64: PyTorch's own sum of 23 million squares in
        float32 is off in the fourth digit, which is too much to compare with."""
        grads = (p.grad.double() for p in self.student.parameters())
        return sum(float(g.square().sum()) for g in grads) ** 0.5

    def _loss(self, mine, theirs, mask, labels):
        torch, s, nn = self.torch, self.settings, self.torch.nn.functional
        tau = s["temperature"]
        z, target = (self._selected(out.logits, mask) for out in (mine, theirs))  # (N,V)
        believed = nn.softmax(target / tau, dim=-1)
        soft = nn.kl_div(nn.log_softmax(z / tau, dim=-1), believed, reduction="batchmean")
        words = nn.cross_entropy(mine.logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
        h, h_target = (self._selected(out.hidden_states[-1], mask) for out in (mine, theirs))
        way = nn.cosine_embedding_loss(h, h_target, torch.ones(len(h)))
        return s["alpha_ce"] * tau**2 * soft + s["alpha_mlm"] * words + s["alpha_cos"] * way

    def _selected(self, x, mask):
        """x (B,T,·)  ->  (N,·) in float32, as the distiller picks them: element by element."""
        picked = self.torch.masked_select(x, mask.unsqueeze(-1).expand_as(x))
        return picked.view(-1, x.shape[-1]).float()


def pin(threads):
    """PyTorch on that many threads, within one operation as between several."""
    torch, _ = _import()
    torch.set_num_threads(threads)


def _import():
    """torch, transformers; ImportError where one is missing.

    We ask OpenMP's idle threads to sleep. PyTorch has its own copy of OpenMP, which reads the same
    request when it is loaded; it shall do what it does without us.
    """
    if os.environ.get("OMP_WAIT_POLICY") == "passive":
        del os.environ["OMP_WAIT_POLICY"]
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    return torch, transformers


def _load(kind, folder, attention, dtype):
    module = kind.from_pretrained(
        folder, dtype=dtype, attn_implementation=attention, local_files_only=True
    )
    return module.eval()
