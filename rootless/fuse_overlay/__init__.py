"""Root file systems from layers: kernel overlay, fuse-overlayfs, our own."""
