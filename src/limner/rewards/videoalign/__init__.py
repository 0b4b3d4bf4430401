"""VideoReward's own network, from the folder that VideoAlign publishes."""
