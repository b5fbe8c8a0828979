"""Types of command-line options: functions from an option's text to its value."""

import argparse
import math


def number_or_share(text: str) -> int | float:
    """ "500" is a number of documents, "0.02" a share of them."""
    value = int(text) if text.isdecimal() else float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number from 0 up, not {text!r}")
    return value


def number_list(text: str) -> tuple[float, ...]:
    """ "0.7,0.3" -> (0.7, 0.3)."""
    return tuple(float(part) for part in text.split(","))
