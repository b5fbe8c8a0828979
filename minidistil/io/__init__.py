"""What is read and written: files, locks, checksums, bounds, arguments, messages."""
