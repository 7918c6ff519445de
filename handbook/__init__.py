"""What of the documentation is made and not written: `python -m handbook`."""
