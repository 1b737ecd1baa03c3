"""The run's HTML page: one self-contained file below the dataset root."""
