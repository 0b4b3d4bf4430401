"""Ready-made configurations, and how a configuration is changed, written and read."""
