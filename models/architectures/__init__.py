"""One network per file; `models.registry` names them."""
