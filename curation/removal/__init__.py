"""Taking material out of a dataset for good: tombstones, what has to go, and the proof of it."""
