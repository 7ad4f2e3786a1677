"""Exit statuses of the commands, beside 0 for done."""

FAILED = 1  # the work failed
USAGE = 2  # wrong usage
SKIPPED = 3  # done, but some inputs were skipped
INTERRUPTED = 130  # Ctrl-C
