"""Groups of evaluated runs side by side, with intervals."""
