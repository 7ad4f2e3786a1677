"""The image network: a ResNet, its weights and its compilation."""
