"""The ways by which a limit is written, one module each; ``choice`` says which way a limit goes."""
