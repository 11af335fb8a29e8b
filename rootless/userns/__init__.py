"""User namespaces: id maps, entering, diagnosis."""
