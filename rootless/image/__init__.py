"""Images: registries, the store's image layout, layers."""
