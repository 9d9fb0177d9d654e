"""`vgg16`: torchvision's VGG-16 with batch normalization, and a classifier for 32x32 and ten classes.

K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks" (arXiv:1409.1556), configuration D. Five pools leave
one pixel of 512 channels, so one linear layer takes the place of the three that ImageNet's 7x7 pixels need.
"""

from torch import nn
from torchvision.models import vgg


def vgg16() -> nn.Module:
    """Return the untrained network: (batch, 3, 32, 32) to logits (batch, 10); 14,728,266 parameters."""
    network: nn.Module = vgg.vgg16_bn(weights=None, num_classes=10)
    network.avgpool = nn.Identity()
    network.classifier = nn.Linear(512, 10)
    return network
