"""`python -m profkit` is the command `profkit`."""

from profkit.cli import main

if __name__ == "__main__":
    main(program="profkit")
