"""How telephone platforms prove that a request comes from them: arithmetic without I/O."""
