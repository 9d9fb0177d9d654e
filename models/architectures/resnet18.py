"""`resnet18`: torchvision's ResNet-18 with the stem that fits pictures of 32x32.

K. He et al., "Deep Residual Learning" (arXiv:1512.03385): for CIFAR-10 the first convolution is 3x3 and nothing is
pooled before the first block.
"""

from torch import nn
from torchvision.models import resnet


def resnet18() -> nn.Module:
    """Return the untrained network: (batch, 3, 32, 32) to logits (batch, 10); 11,173,962 parameters."""
    network: nn.Module = resnet.resnet18(weights=None, num_classes=10)
    network.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
    return network
