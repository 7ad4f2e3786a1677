"""The networks and their mathematics."""
