"""``python -m multispace`` runs the command-line interface."""

from multispace.cli import main

if __name__ == "__main__":
    main()
