"""What the README's figures come from: `python -m benchmarks.NAME`; each prints one JSON object as its last line."""
