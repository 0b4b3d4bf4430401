"""What algorithms share: their passes over a rollout, credit, penalties, a critic."""
