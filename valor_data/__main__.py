"""`python -m valor_data`."""

from valor_data.cli import main

if __name__ == "__main__":
    main()
