"""Media: opening, decoding and encoding video files with PyAV (which carries FFmpeg)."""
