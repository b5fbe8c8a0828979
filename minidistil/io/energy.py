"""Energy that the processor uses while something runs.

Linux gives the counters of Intel's and AMD's processors (RAPL) in /sys/class/powercap, in
microjoules: one for each package, which count the work of everything on the machine. Reading them
needs a right that most systems keep to root, and virtual machines have none. Without them energy is
this process's time on all cores multiplied by a stated power of one core.
"""

import time
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Self

RAPL = Path("/sys/class/powercap")
ZONES = "intel-rapl:*"  # AMD's have this name, too
PACKAGE = "package"  # what a package's name begins with; others are parts of one, or hold it (psys)
WATTS = 15.0  # of one busy core with its share of caches and memory
EVERY = 30.0  # seconds between readings: the shortest counters, of 65 kJ, last that long at 2 kW


class Energy:
    """`with Energy() as used:` …, then used.joules and used.source; used.so_far() within.

    watts: the power that is assumed where there are no counters. source: "RAPL", or the assumption.
    Counters begin again at 0 after some minutes, so a thread reads them from time to time.
    """

    joules, source = 0.0, ""

    def __init__(self, watts: float = WATTS, counters: Path = RAPL):
        self.watts, self.folder = watts, counters

    def __enter__(self) -> Self:
        self.lock, self.ended = Lock(), Event()
        self.largest = _numbers(self.folder.glob(ZONES), "max_energy_range_uj")
        self.counts, self.counted = _numbers(self.largest, "energy_uj"), 0
        self.started = time.process_time()
        if self.counts:
            Thread(target=self._read_often, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.joules = self.so_far()
        self.ended.set()
        self.source = "RAPL" if self.counts else f"{self.watts:g} W assumed"

    def so_far(self) -> float:
        """Joules since the block began."""
        with self.lock:
            now = _numbers(self.counts, "energy_uj")  # {} for good, once one cannot be read
            used = ((now[zone] - self.counts[zone]) % (self.largest[zone] + 1) for zone in now)
            self.counts, self.counted = now, self.counted + sum(used)
        if now:
            return self.counted / 1e6
        return self.watts * (time.process_time() - self.started)

    def _read_often(self):
        while not self.ended.wait(EVERY):
            self.so_far()


def _numbers(zones, file):
    """{the folder of a package: the number in its file}; {} where any cannot be read."""
    try:
        packages = [zone for zone in zones if (zone / "name").read_text().startswith(PACKAGE)]
        return {zone: int((zone / file).read_text()) for zone in packages}
    except (OSError, ValueError):
        return {}
