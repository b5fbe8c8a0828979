"""What a command says on stderr: one line, short enough to be read."""

MOST = 499  # characters of a line, its end not counted
REMEDY = 240  # of them at most for what follows the last semicolon


def one_line(text):
    """A message  ->  one line of printable characters, without its middle where it is too long.

    What is wrong stands at the beginning of a message, and what to do at its end, behind a
    semicolon: both stay.
    """
    line = " ".join(str(text).split())
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    if len(line) <= MOST:
        return line
    end = line[line.rfind("; ") :] if "; " in line else ""
    end = end if len(end) <= REMEDY else line[-REMEDY:]
    left_out = f" … ({len(line) - MOST:,} characters left out) …"
    return line[: MOST - len(left_out) - len(end)] + left_out + end
