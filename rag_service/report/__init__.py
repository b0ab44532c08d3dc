"""Sentences, the labeler that reads them, the citation gate, and the draft they become."""
