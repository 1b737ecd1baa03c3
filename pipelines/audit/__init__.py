"""The audit: one page that tells why a clip was dropped, and what would bring it back."""
