"""Where the checkout is, and the real data that some tests read where it is present."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
SHARED = ROOT.parent / "shared"
DATA = SHARED / "data"
