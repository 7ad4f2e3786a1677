"""Lets a test stop a process at the moment when it reads an image.

Python imports this module at its start if this folder is on PYTHONPATH. The process then waits
before it opens ``NAME.png`` for as long as ``NAME.png.wait`` exists. Meanwhile it holds a lock on
``NAME.png.reader``, which the system releases if the process dies.
"""

import fcntl
import os
import time

open_file = os.open


def open_when_released(path, *arguments, **options):
    wait = f"{path}.wait"
    if wait.endswith(".png.wait") and os.path.exists(wait):
        reader = open_file(f"{path}.reader", os.O_CREAT | os.O_RDWR)
        fcntl.flock(reader, fcntl.LOCK_EX)
        os.write(reader, b"waiting")
        while os.path.exists(wait):
            time.sleep(0.02)
        os.close(reader)
    return open_file(path, *arguments, **options)


os.open = open_when_released
