"""The best evaluation of a run: which parameters are kept, and when training stops early.

An evaluation is better where its measure is; one that is equal is not. Training stops after
`patience` evaluations in a row that were not better, the one before the first step being the first
of all. What is known of the best is part of a checkpoint, parameters included, so that a resumed
run keeps and stops as the uninterrupted one does.
"""

import math

LOWER = ("loss", "perplexity", "mse")  # measures of which less is better


def wanted(config):
    """Whether evaluations decide anything."""
    return config.patience is not None or config.keep == "best"


def measure_of(config, evaluation):
    """The measure that decides: the first of the config's that the evaluation has.

    Raises ValueError where it has none of them.
    """
    for name in config.measure or ("loss", *evaluation):
        if name in evaluation:
            return name
    raise ValueError(
        f"measure must be one of {', '.join(evaluation) or 'those of an evaluation'}, not "
        f"{' or '.join(config.measure)}"
    )


def judged(best, evaluation, step, config):
    """What is known of the best so far, None at first, and a new evaluation  ->  the same anew."""
    name = measure_of(config, evaluation)
    value = float(evaluation[name])
    if best is not None and not _better(name, value, best["value"]):
        return best | {"waited": best["waited"] + 1}
    return {"step": step, "measure": name, "value": value, "evaluation": evaluation, "waited": 0}


def _better(name, value, before):
    """NaN is better than nothing, and everything than NaN (None, in a checkpoint)."""
    if not math.isfinite(value):
        return False
    if before is None or not math.isfinite(before):
        return True
    return value < before if name in LOWER else value > before


def over(best, config):
    """Whether patience is at its end."""
    return config.patience is not None and best is not None and best["waited"] >= config.patience


def kept(best, step, steps, config):
    """For the report: {"step", "measure", "value", "why"}, and "stopped" where it was early."""
    name, value = best["measure"], best["value"]
    if config.keep == "best":
        found = {"step": best["step"], "measure": name, "value": value, "why": f"the best {name}"}
    else:
        found = {"step": step, "measure": name, "why": "the last"}
    if step < steps and over(best, config):
        found["stopped"] = f"no better {name} in {best['waited']} evaluations"
    return found


def sentence(found):
    """What `kept` found, as a report says it."""
    if found["why"] == "the last":
        text = f"kept: the last step, {found['step']}"
    else:
        text = f"kept: step {found['step']}, {found['why']} ({found['value']:.4f})"
    return f"{text}; stopped early: {found['stopped']}" if "stopped" in found else text
