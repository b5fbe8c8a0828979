"""The best evaluation of a run: which parameters are kept, and when training stops early.

An evaluation is better if its measure is; an equal one is not better. Training stops after
`patience` evaluations in a row that are not better; the first evaluation is before the first step.
The best evaluation and its parameters are part of a checkpoint, so a resumed run keeps the same
parameters and stops at the same step as an uninterrupted one.
"""

import math

from minidistil.io.counts import counted

LOWER = ("loss", "perplexity", "mse")  # measures where lower is better


def wanted(config) -> bool:
    """Whether the config uses evaluations to keep parameters or to stop."""
    return config.patience is not None or config.keep == "best"


def measure_of(config, evaluation):
    """The name of the measure to compare: the first of the config's that the evaluation has.

    Raises ValueError if it has none of them.
    """
    for name in config.measure or ("loss", *evaluation):
        if name in evaluation:
            return name
    raise ValueError(
        f"measure must be one of {', '.join(evaluation) or 'those of an evaluation'}, not "
        f"{' or '.join(config.measure)}"
    )


def judged(best, evaluation, step, config):
    """The best so far (None at first) and a new evaluation  ->  the updated best."""
    name = measure_of(config, evaluation)
    value = float(evaluation[name])
    if best is not None and not _better(name, value, best["value"]):
        return best | {"waited": best["waited"] + 1}
    return {"step": step, "measure": name, "value": value, "evaluation": evaluation, "waited": 0}


def _better(name, value, before):
    """A value that is not finite is never better; a finite one is better than such a value, stored
    as None in a checkpoint."""
    if not math.isfinite(value):
        return False
    if before is None or not math.isfinite(before):
        return True
    return value < before if name in LOWER else value > before


def over(best: dict | None, config) -> bool:
    """Whether training stops early: `patience` evaluations were not better."""
    return config.patience is not None and best is not None and best["waited"] >= config.patience


def kept(best, step, steps, config):
    """For the report: {"step", "measure", "value", "why"}, and "stopped" where it was early."""
    name, value = best["measure"], best["value"]
    if config.keep == "best":
        found = {"step": best["step"], "measure": name, "value": value, "why": f"the best {name}"}
    else:
        found = {"step": step, "measure": name, "why": "the last"}
    if step < steps and over(best, config):
        found["stopped"] = f"no better {name} in {counted(best['waited'], 'evaluation')}"
    return found


def sentence(found: dict) -> str:
    """The result of `kept` as one line of a report."""
    if found["why"] == "the last":
        text = f"kept: the last step, {found['step']}"
    else:
        text = f"kept: step {found['step']}, {found['why']} ({found['value']:.4f})"
    return f"{text}; stopped early: {found['stopped']}" if "stopped" in found else text
