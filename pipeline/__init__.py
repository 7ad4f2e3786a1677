"""What each command does, start to end."""
