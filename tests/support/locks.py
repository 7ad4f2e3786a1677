"""A process that holds the lock of a cache."""

from multispace.data.cache.writer import write_cache


def hold(root):
    with write_cache(root):
        print("ready", flush=True)
        input()
