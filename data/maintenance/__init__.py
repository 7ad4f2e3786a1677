"""What keeps caches sound: verify, repair, merge, compare, import and export."""
