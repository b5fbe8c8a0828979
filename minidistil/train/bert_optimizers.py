"""BertAdam and LAMB, the optimisers of BERT's relatives, as their own code computes them.

Both have AdamW's moments m and v without its bias correction: after t steps m is 1−β₁ᵗ and √v is
√(1−β₂ᵗ) times the running mean, so the first steps are too long and a warm-up is needed.

    BertAdam      g ← g·min(1, 1/(‖g‖ + 1e-6)), each parameter on its own, then
                  p ← p − η·u                    u = m/(√v + ε) + λp
    Lamb          p ← p − η·(‖p‖/‖u‖)·u          ratio 1 for a p without decay, or a norm of 0

Sources: TinyBERT's optimization.py, which is that of pytorch-pretrained-bert (ε 1e-6, and λ 0.01
whatever --weight_decay says); ALBERT's lamb_optimizer.py, by You et al., "Large batch optimization
for deep learning", 2020, algorithm 2, which has the corrections that the code omits.
"""

from minidistil.train.optimizer import AdamW, clip_factor, global_norm

FAR = 10**9  # a step number with βᵗ = 0: no bias correction


class BertAdam(AdamW):
    """Adam with each parameter's gradient clipped to norm 1 on its own. `max_grad_norm` 0 in
    TrainConfig is TinyBERT's setting."""

    def updated(self, grads, lr, t, scale):
        """grads: name -> array  ->  yields each new parameter."""
        for name, g in grads.items():
            own = clip_factor(scale * global_norm([g], self.backend), 1.0)
            yield from super().updated({name: g}, lr, FAR, scale * own)


class Lamb(AdamW):
    """Each matrix's update has the norm of the matrix, times the learning rate."""

    def updated(self, grads, lr, t, scale):
        """grads: name -> array  ->  yields each new parameter."""
        names = iter(grads)
        for moved in super().updated(grads, 1.0, FAR, scale):  # p − u
            name = next(names)
            p, scaled = self.params[name], self.place.scaled
            u = scaled(p, 1.0)
            self.place.accumulate(u, scaled(moved, -1.0))
            norm_p, norm_u = (global_norm([x], self.backend) for x in (p, u))
            ratio = norm_p / norm_u if name in self.decay and norm_p > 0 and norm_u > 0 else 1.0
            new = scaled(p, 1.0)
            self.place.accumulate(new, scaled(u, -lr * ratio))
            yield new
