"""Films: reading them from untrusted bytes, and preparing their pixels for the models."""
