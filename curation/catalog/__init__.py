"""The catalog: the Lance tables of one dataset root."""
