"""What the terminal shows: progress, one process that prints."""
