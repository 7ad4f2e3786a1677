"""Parts of train: the loop, optimizer, resume, several processes, logging, validation."""
