"""The card of a checkpoint, `model.json`: what the weights are, how they were made, how good they are."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from models.labels import LABELS
from models.preprocessing import IMAGE_SIZE_PX, MEAN, STD

_LEAST_AGREEMENT = 0.995
_MOST_LOSS = 0.001

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Preprocessing(_Frozen):
    """Size in pixels; mean and standard deviation per RGB channel of pictures scaled to 0..1."""

    size_px: int = IMAGE_SIZE_PX
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD


class Metrics(_Frozen):
    """Quality on one split, one plain forward pass a picture."""

    images: Annotated[int, Field(ge=1)]
    accuracy: Fraction
    accuracy_per_label: dict[str, Fraction]
    ece: Fraction
    ece_uncalibrated: Fraction
    """Expected calibration error with the card's temperature, and with temperature 1."""


class PrecisionCheck(_Frozen):
    """What a floating type costs, on the test pictures: its accuracy, and how often it gives fp32's label."""

    accuracy: Fraction
    agreement: Fraction


class Training(_Frozen):
    """How the weights came to be: enough to do it again."""

    command: str
    config: dict[str, JsonValue]
    seconds: Annotated[float, Field(ge=0.0)]
    hardware: str
    data_digest: str
    """SHA-256 over the pictures and labels of the training and the test file, in file order."""
    code_revision: str
    libraries: dict[str, str]


class Card(_Frozen):
    """Everything a server needs to know of a checkpoint before it reads the weights."""

    model: str
    version: Annotated[int, Field(ge=1)]
    architecture: str
    parameters: Annotated[int, Field(ge=1)]
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of `model.pt`, hexadecimal."""
    created: datetime
    labels: tuple[str, ...] = LABELS
    preprocessing: Preprocessing = Preprocessing()
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """Logits are divided by it before the softmax (Guo et al., arXiv:1706.04599)."""
    validation: Metrics
    test: Metrics
    precisions: dict[str, PrecisionCheck] = {}
    training: Training

    def allowed_precisions(self) -> tuple[str, ...]:
        """Return the precisions that may be served: fp32, and those that cost next to nothing."""
        return (
            "fp32",
            *(
                name
                for name, check in self.precisions.items()
                if check.agreement >= _LEAST_AGREEMENT and check.accuracy >= self.test.accuracy - _MOST_LOSS
            ),
        )
