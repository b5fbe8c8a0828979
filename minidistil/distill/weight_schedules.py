"""Schedules of the temperature and of the losses' weights over a run.

    temperature=linear:8:1     from 8 to 1, linear in the step
    alpha_ce=cosine:5:0.5      from 5 to 0.5 along half a cosine wave
    alpha_mlm=constant:2       always 2, as without a schedule

With x = step/steps, from 0 in the first step to just below 1 in the last, a number is
start + (end − start)·rise(x). Source: TextBrewer's linear_growth (0 to 1) and linear_decay (1 to 0)
of a loss's weight are linear:0:1 and linear:1:0 here.
"""

import math

RISES = {
    "constant": lambda x: 0.0,
    "linear": lambda x: x,
    "cosine": lambda x: 0.5 * (1 - math.cos(math.pi * x)),
}


def parse(rule: str) -> tuple[str, str, float, float]:
    """ "temperature=linear:8:1"  ->  name, schedule, start, end. Raises ValueError."""
    name, equals, rest = str(rule).partition("=")
    schedule, *ends = rest.split(":")
    try:
        numbers = [float(number) for number in ends]
    except ValueError:
        numbers = []
    wanted = 1 if schedule == "constant" else 2
    if not equals or schedule not in RISES or len(numbers) != wanted:
        raise ValueError(
            f"a number varies as NAME=linear:START:END, NAME=cosine:START:END or "
            f"NAME=constant:VALUE, not {rule!r}"
        )
    return name.replace("-", "_"), schedule, numbers[0], numbers[-1]


def values(rules: tuple, x: float) -> dict[str, float]:
    """{name: value} at the share x of the run, 0 to 1."""
    found = {}
    for rule in rules:
        name, schedule, start, end = parse(rule)
        found[name] = start + (end - start) * RISES[schedule](x)
    return found
