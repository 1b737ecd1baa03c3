"""What a training would read: planned, listed, looked at and measured before it runs."""
