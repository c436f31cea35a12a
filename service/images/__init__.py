"""Bytes of pictures to uint8 arrays, and back."""
