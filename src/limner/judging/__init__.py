"""What judges share: what one says about itself, the one form of its answers, and how one elsewhere is asked."""
