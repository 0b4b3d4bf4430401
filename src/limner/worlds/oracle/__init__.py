"""Oracle worlds: generators whose density, reward and best possible result are known exactly."""
