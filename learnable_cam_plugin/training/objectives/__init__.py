"""What a training minimises, as pure functions: the paper's loss; that of every threshold."""
