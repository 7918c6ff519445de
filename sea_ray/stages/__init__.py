"""The stages' functions: load the parents, call the rooms, save the result, return the facts of the record."""
