"""Presets: YAML that a user copies and edits."""
