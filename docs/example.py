"""From generated images to captions, and to a model of your own. Each cell begins with `# %%`.

Open it as a notebook (VS Code, Spyder, Jupyter with jupytext), or run it: python example.py
It writes to the current folder, needs no network, and takes less than a minute.
"""

# %% A collection of images with captions

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

import multispace as ms

ms.shapes("shapes", images=200, seed=0)

# %% A feature cache, one split at a time

for split in ("train", "val", "test"):
    summary = ms.preprocess(
        annotations=f"shapes/annotations/{split}.json",
        images="shapes/images",
        cache="cache",
        backbone="resnet18",
        weights="random",  # needs no download; leave it out to use ImageNet weights
        resize=64,
        crop=64,
        min_count=1,
    )
cache = ms.open_cache("cache")
print(cache)

# %% A short training

trained = ms.train(
    "multispace",
    cache="cache",
    run="run",
    epochs=6,
    batch_size=32,
    learning_rate=5e-3,
    embedding=64,
    hidden=64,
    z_size=16,
    categories="8x2",  # two variables of eight categories
    capacity_z_max=20,  # nats; in proportion to z_size
    capacity_c_max=4,
)
print(f"{trained.steps} steps, {trained.parameters} parameters")

# %% Captions of images, and of draws of the latent space

run = ms.load_run("run")
references = cache.captions("test")
key = next(iter(references))
image = f"shapes/images/{key}"
print("written:", references[key][0])
print("caption:", run.caption([image])[0])
for text in run.caption([image], samples=3)[0]:
    print("sample: ", text)
for text in run.sample(3):
    print("prior:  ", text)

# %% What the latent space says about an image

encoding = run.encode([image])
print("mean of z:", encoding.mean.shape, "std of z:", encoding.std.shape)
for number, probabilities in enumerate(encoding.probabilities):
    category = probabilities[0].argmax()
    print(f"variable {number}: category {category}, probability {probabilities[0, category]:.2f}")

# %% A model of your own, from the same cache

train = cache.dataset("train", padded=True)
loader = DataLoader(train, batch_size=64, shuffle=True, collate_fn=train.collate)


class OwnModel(nn.Module):
    """A recurrent captioner: the image's features are the first state of a GRU."""

    def __init__(self, words: int, features: int, units: int = 64) -> None:
        super().__init__()
        self.start = nn.Linear(features, units)
        self.embedding = nn.Embedding(words, units)
        self.gru = nn.GRU(units, units, batch_first=True)
        self.output = nn.Linear(units, words)

    def forward(self, features: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits (B, T, words) of features (B, D) and input tokens (B, T)."""
        state = torch.tanh(self.start(features))[None]
        hidden, _ = self.gru(self.embedding(inputs), state)
        return self.output(hidden)


torch.manual_seed(0)
model = OwnModel(len(cache.vocabulary()), cache.spec.dimension)
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(4):
    total = 0.0
    for batch in loader:
        logits = model(batch.features, batch.tokens[:, :-1])
        # 0 is the padding token, which does not count.
        loss = cross_entropy(logits.flatten(0, 1), batch.tokens[:, 1:].flatten(), ignore_index=0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(f"own model, epoch {epoch}: {total / len(loader):.2f} nats per token")
