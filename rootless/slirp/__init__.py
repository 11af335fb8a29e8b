"""User-mode networking by slirp4netns."""
