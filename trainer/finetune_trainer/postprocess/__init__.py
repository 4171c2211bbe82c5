"""What is done to a model after training: each step reads an artifact from its files and makes another."""
