"""Other people's formats for grounded reports, in and out."""
