"""The inference service. It never imports torch or training."""
