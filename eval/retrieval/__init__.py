"""python -m eval retrieval DIR: does the case search find cases that are alike? By film, by words, by a region of a film."""
