"""transformers' modules on PyTorch, with the parameters of one of our models.

They load the folder that `save_pretrained` writes: the same names, shapes and bits.
"""

import os
import warnings

import numpy as np


def encoder(folder, attention, dtype="float32"):
    """The body in a folder  ->  a function from ids, mask (B,T) to the last hidden state (B,T,C).

    attention: "eager" (products and softmax separately) or "sdpa" (one fused kernel).
    dtype: "float32"; "bfloat16" for weights and activations; "int8" for PyTorch's dynamic
    quantisation of the Linear layers.
    """
    torch, transformers = import_torch()
    module = _load(transformers.AutoModel, folder, attention, torch.float32)
    if dtype == "bfloat16":
        module = module.to(torch.bfloat16)
    elif dtype == "int8":
        module = quantized(module)

    def run(ids, mask):
        with torch.inference_mode():
            ids, mask = torch.from_numpy(ids), torch.from_numpy(mask)
            return module(input_ids=ids, attention_mask=mask).last_hidden_state.float().numpy()

    return run


def quantized(module):
    """PyTorch's dynamic int8 quantisation of a module's Linear layers."""
    torch, _ = import_torch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its deprecation in favour of torchao
        quantize = torch.ao.quantization.quantize_dynamic
        return quantize(module, {torch.nn.Linear}, dtype=torch.qint8)


class TorchDistillation:
    """Hugging Face's distillation step for DistilBERT: both models on the padded batch, the triple
    loss on the logits (B,T,V) that the mask selects, gradients, clipping, AdamW.

    `distillation(batch, train)` performs a step and returns loss and gradient norm. train: with
    dropout, as in the distiller; without it, two implementations compute the same numbers.
    settings: temperature, alpha_ce, alpha_mlm, alpha_cos, lr, betas, eps, weight_decay,
    max_grad_norm. dtypes: of the teacher; of the student's products, where bfloat16 means
    torch.autocast, with weights and optimiser in float32.
    """

    def __init__(self, student, teacher, attention, settings, dtypes=("float32", "float32")):
        self.torch, transformers = import_torch()
        kind, float32 = transformers.AutoModelForMaskedLM, self.torch.float32
        self.student = _load(kind, student, attention, float32)
        self.teacher = _load(kind, teacher, attention, float32)
        self.teacher.to(getattr(self.torch, dtypes[0])).requires_grad_(False)
        self.autocast = dtypes[1] == "bfloat16"
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
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
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
        """The gradients' norm, summed in float64: PyTorch's sum of 23 million squares in float32
        is wrong in the fourth digit, too much for a comparison."""
        grads = (p.grad.double() for p in self.student.parameters())
        return sum(float(g.square().sum()) for g in grads) ** 0.5

    def _loss(self, mine, theirs, mask, labels):
        torch, s, nn = self.torch, self.settings, self.torch.nn.functional
        tau = s["temperature"]
        z_s, z_t = (self._selected(out.logits, mask) for out in (mine, theirs))  # (N,V)
        p_t = nn.softmax(z_t / tau, dim=-1)
        ce = tau**2 * nn.kl_div(nn.log_softmax(z_s / tau, dim=-1), p_t, reduction="batchmean")
        logits = mine.logits.flatten(0, 1).float()
        mlm = nn.cross_entropy(logits, labels.flatten(), ignore_index=-100)
        h_s, h_t = (self._selected(out.hidden_states[-1], mask) for out in (mine, theirs))
        cos = nn.cosine_embedding_loss(h_s, h_t, torch.ones(len(h_s)))
        return s["alpha_ce"] * ce + s["alpha_mlm"] * mlm + s["alpha_cos"] * cos

    def _selected(self, x, mask):
        """x (B,T,·)  ->  (N,·) in float32, selected element by element as in the distiller."""
        picked = self.torch.masked_select(x, mask.unsqueeze(-1).expand_as(x))
        return picked.view(-1, x.shape[-1]).float()


def pin(threads):
    """Set the number of PyTorch's threads within an operation."""
    torch, _ = import_torch()
    torch.set_num_threads(threads)


def import_torch():
    """Import torch and transformers. Raises ImportError.

    minidistil sets OMP_WAIT_POLICY=passive for its own OpenMP. PyTorch has a second copy, which
    reads the variable when it is loaded; without the variable it keeps its default.
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
