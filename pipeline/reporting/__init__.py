"""What reports are made of: tables, curves, examples, commands to reproduce a run."""
