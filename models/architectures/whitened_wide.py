"""`whitened_wide`: the default network: `whitened` with wider blocks and a third convolution in each of them."""

from models.architectures.whitened import WhitenedNet


def whitened_wide() -> WhitenedNet:
    """Return the untrained network: (batch, 3, 32, 32) to logits (batch, 10); 4,444,728 parameters."""
    return WhitenedNet((64, 320, 288), residual=(True, True, True))
