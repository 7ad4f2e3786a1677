"""Run folders: options, checkpoints, evaluations."""
