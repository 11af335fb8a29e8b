"""The use cases: containers and images as a person handles them."""
