"""Feature vectors in the files of other software: import and export."""
