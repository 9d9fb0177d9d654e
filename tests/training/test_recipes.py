import pytest

from models import registry
from models.errors import UnknownArchitecture
from training.recipes import RECIPES, recipe_for


def test_every_architecture_has_a_recipe() -> None:
    """A network that can be built can be trained by each recipe, and nothing else can."""
    for recipes in RECIPES.values():
        assert set(recipes) == set(registry.names())


def test_unknown_architecture() -> None:
    """A name without a recipe is refused, and the message lists those with one."""
    with pytest.raises(UnknownArchitecture, match="'resnet9000': expected one of basic_cnn, inception, "):
        recipe_for("resnet9000")
