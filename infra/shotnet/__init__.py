"""How the shot network's weights are made: footage bank, composer, training."""
