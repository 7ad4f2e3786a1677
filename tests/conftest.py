"""Collections and caches small enough to make anew for each test."""
