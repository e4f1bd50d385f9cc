"""How the lab's networks are trained: starting values, recipe, and where states are saved."""
