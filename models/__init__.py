"""What a model is: architectures, preprocessing, labels, checkpoint format, repository of versions.

Training writes what this package describes and serving reads it; neither is known here.
"""

DEFAULT_MODEL = "whitened"
"""The architecture that is trained, and the model that answers, when none is named."""
