"""`python -m seqdsl`: the command line."""

from seqdsl.cli import main

if __name__ == "__main__":
    main()
