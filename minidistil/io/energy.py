"""Energy that the processor uses while something runs.

Linux gives the counters of Intel's and AMD's processors (RAPL) in /sys/class/powercap, in
microjoules: one for each package, which count the work of everything on the machine. Reading them
needs a right that most systems keep to root, and virtual machines have none. Without them energy is
this process's time on all cores multiplied by a stated power of one core.
"""

import time
from pathlib import Path
from typing import Self

RAPL = Path("/sys/class/powercap")
PACKAGES = "intel-rapl:[0-9]*"  # AMD's have this name, too; "intel-rapl:0:0" is a part of a package
WATTS = 15.0  # of one busy core with its share of caches and memory


class Energy:
    """`with Energy() as used:` …, then used.joules and used.source.

    watts: the power that is assumed where there are no counters. source: "RAPL", or the assumption.
    """

    joules, source = 0.0, ""

    def __init__(self, watts: float = WATTS, counters: Path = RAPL):
        self.watts, self.folder = watts, counters

    def __enter__(self) -> Self:
        self.before, self.started = self._counts(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        seconds, after = time.process_time() - self.started, self._counts()
        if self.before and self.before.keys() == after.keys():
            used = (_difference(zone, self.before[zone], after[zone]) for zone in after)
            self.joules, self.source = sum(used) / 1e6, "RAPL"
        else:
            self.joules, self.source = self.watts * seconds, f"{self.watts:g} W assumed"

    def _counts(self):
        """{folder of a package: microjoules}; {} where any cannot be read."""
        zones = [zone for zone in self.folder.glob(PACKAGES) if zone.name.count(":") == 1]
        try:
            return {zone: int((zone / "energy_uj").read_text()) for zone in zones}
        except OSError:
            return {}


def _difference(zone, before, after):
    """Microjoules between two readings of a counter, which begins again at 0 behind its largest."""
    if after >= before:
        return after - before
    return after - before + int((zone / "max_energy_range_uj").read_text()) + 1
