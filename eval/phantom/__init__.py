"""A digital thorax: a synthetic chest film whose every finding has an exact, known box."""
