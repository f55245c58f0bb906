"""`python -m workers.cli`: the command without its entry point."""

from workers.cli import main

if __name__ == "__main__":
    main()
