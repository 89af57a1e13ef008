"""`python -m ecgbench` is the command `ecgbench`."""

from ecgbench.cli import main

if __name__ == "__main__":
    main()
