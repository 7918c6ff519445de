"""Studies: questions that the method leaves open, each with its arms, its figures and its page."""
