"""python -m eval speed store: how fast, how exact and how large the case search is at N cases, beside other engines."""
