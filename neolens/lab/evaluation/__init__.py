"""What the lab's networks can do: accuracies, their spread over seeds, learning curves."""
