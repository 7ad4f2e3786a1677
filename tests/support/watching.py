"""Count what a function reports of its progress."""


class Watcher:
    """A ``watch`` of data functions: its total, and all that was counted."""

    def __init__(self) -> None:
        self.total = 0
        self.counted: list[int] = []

    def __call__(self, total: int):
        assert not self.counted
        self.total = total
        return self.counted.append
