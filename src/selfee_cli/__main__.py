"""``python -m selfee_cli`` is ``selfee``."""

from selfee_cli.cli import main

if __name__ == "__main__":
    main()
