"""python -m eval anatomy DIR: lungs and heart against drawn outlines, the cardiothoracic ratio, and what mask tokens add."""
