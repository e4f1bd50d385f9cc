"""`python -m neolens`: the command line."""

from neolens.cli import main

if __name__ == "__main__":
    main()
