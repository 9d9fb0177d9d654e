"""What a model is: architectures, preprocessing, labels, checkpoint format, repository of versions.

Training writes what this package describes and serving reads it; neither is known here.
"""

DEFAULT_MODEL = "whitened"
"""The model that answers when none is named."""

DEFAULT_ARCHITECTURE = "whitened_wide"
"""The network that is trained when none is named."""
