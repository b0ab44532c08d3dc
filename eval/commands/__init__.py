"""The tasks of `python -m eval`: one row each, with what it is called, what it takes, and what it runs."""
