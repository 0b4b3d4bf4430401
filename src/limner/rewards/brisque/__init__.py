"""BRISQUE, a measure of naturalness without a reference: its features, and the published regression on them."""
