"""Files as a database: atomic records (`record`) and advisory locks (`lock`)."""
