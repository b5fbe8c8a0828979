"""Learning-rate schedules: the factor for step 0, 1, … total − 1.

Source: transformers' get_*_schedule_with_warmup. With a warm-up the factor of the first step is 0.
"""

import math


def _warm(step, warmup):
    return step / max(1, warmup)


def constant(step: int, *, warmup: int, total: int) -> float:
    """Up to 1 over `warmup` steps, then 1."""
    return _warm(step, warmup) if step < warmup else 1.0


def linear(step: int, *, warmup: int, total: int) -> float:
    """Up to 1 over `warmup` steps, then straight down to 0 at `total`."""
    if step < warmup:
        return _warm(step, warmup)
    return max(0.0, (total - step) / max(1, total - warmup))


def cosine(step: int, *, warmup: int, total: int) -> float:
    """Up to 1 over `warmup` steps, then half a cosine wave down to 0 at `total`."""
    if step < warmup:
        return _warm(step, warmup)
    progress = (step - warmup) / max(1, total - warmup)
    return max(0.0, 0.5 * (1 + math.cos(math.pi * progress)))


SCHEDULES = {"constant": constant, "linear": linear, "cosine": cosine}
