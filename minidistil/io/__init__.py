"""Files, locks, checksums, limits on input, argument checks, console output."""
