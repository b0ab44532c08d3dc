"""The network of region queries: words in, boxes out, over the frozen maps of a film. After ChEX and CheXQuery-MedVLM.

Every query is a text vector. It becomes R tokens that see one another and no other query's (block-diagonal self-attention) and look
at the film's places through cross-attention. A token's box starts where it looks: the centre of its attention, moved by an MLP. Its
feature is what it saw and what lies under its box (soft Gaussian pooling). Shapes: B films, Q queries, R = 3 regions, N places in
rows, W width. ChEX: arXiv 2404.15770.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from knowledge_base.findings import FINDINGS
from rag_service.models.network import ANATOMY

REGIONS: Final = 3
BETA: Final = 2.0
"""How sharply a Gaussian box falls off."""
STRUCTURES: Final = ("cardiac", "left lung", "right lung", "mediastinum", "diaphragm", "spine")
QUERIES: Final = (*FINDINGS, *STRUCTURES)
"""What is always asked of a film; sides are the patient's."""
TOKENS: Final = 1 + len(QUERIES)
SHUT: Final = 0.1
"""The gate never shuts out the whole film or the queries altogether: free to, it learnt to do without the queries."""
_TINY: Final = 1e-4


@dataclass(frozen=True)
class QueryShape:
    """Everything needed to rebuild the network around a state dict. `side` is the number of places across, `early`, `late` and
    `pooled` the channels of the film network it reads."""

    width: int = 128
    text_width: int = 384
    heads: int = 4
    blocks: int = 2
    side: int = 10
    early: int = 256
    late: int = 512
    pooled: int = 782

    def to_json(self) -> dict[str, int]:
        """Plain values, for the listing beside the weights."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class FilmMaps:
    """What is read of B films: maps `early` (B, C, side, side) and `late` (B, D, h, w), `places` (B, 17, side, side) logits, and
    `pooled` (B, P)."""

    early: Tensor
    late: Tensor
    places: Tensor
    pooled: Tensor


@dataclass(frozen=True, eq=False)
class Seen:
    """A film once its maps are joined: `places` (B, N, W), each with its position, and the whole film as one vector (B, W)."""

    places: Tensor
    whole: Tensor


@dataclass(frozen=True, eq=False)
class Located:
    """Answers to Q queries: `boxes` (B, Q, R, 4) as centre x, centre y, width, height in fractions of the film; `weights`
    (B, Q, R) logits; `regions` (B, Q, R, W) a feature for each box and `features` (B, Q, W) their weighed mean; `attention`
    (B, Q, N) where the query looked, summing to 1."""

    boxes: Tensor
    weights: Tensor
    regions: Tensor
    features: Tensor
    attention: Tensor


def gaussian_shares(boxes: Tensor, side: int) -> Tensor:
    """Boxes (..., 4) as centre and size -> how much of each of side*side places lies under them, (..., N) in (0, 1], at most 1."""
    cells = (torch.arange(side, dtype=boxes.dtype) + 0.5) / side
    x, y, width, height = (part[..., None] for part in boxes.unbind(-1))
    across = ((cells - x).abs() / width.clamp(min=_TINY)).pow(BETA)
    down = ((cells - y).abs() / height.clamp(min=_TINY)).pow(BETA)
    distance = (down[..., :, None] + across[..., None, :]).flatten(-2)
    return torch.exp(distance.amin(-1, keepdim=True) - distance)


def pool(places: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Mean of `places` (B, N, W) under boxes (B, ..., 4), (B, ..., W)."""
    shares = gaussian_shares(boxes, side)
    shares = shares / shares.sum(-1, keepdim=True)
    return torch.einsum("b...n,bnw->b...w", shares, places)


def _mlp(inner: int, width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inner, width), nn.GELU(), nn.Linear(width, out))


class Block(nn.Module):
    """The R tokens of a query see one another, then the film, then themselves."""

    def __init__(self, shape: QueryShape, dropped: float) -> None:
        super().__init__()
        width, self.heads = shape.width, shape.heads
        self.together, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.ask, self.show, self.take = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.think = _mlp(width, 2 * width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropped)

    def forward(self, tokens: Tensor, film: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, Q, R, W) over a film (B, N + 1, W) -> tokens, and the heads' mean attention (B, Q, R, N + 1)."""
        tokens = tokens + self.dropout(self._among(self.norms[0](tokens)))
        seen, attention = self._look(self.norms[1](tokens), film)
        tokens = tokens + self.dropout(seen)
        return tokens + self.dropout(self.think(self.norms[2](tokens))), attention

    def _among(self, tokens: Tensor) -> Tensor:
        """Self-attention within each query: the block-diagonal mask, without the blocks it would hide."""
        asked, shown, taken = (self._split(part) for part in self.together(tokens).chunk(3, -1))
        found = functional.scaled_dot_product_attention(asked, shown, taken)
        return self.mix(found.transpose(-3, -2).flatten(-2))  # type: ignore[no-any-return]

    def _look(self, tokens: Tensor, film: Tensor) -> tuple[Tensor, Tensor]:
        batch, queries, regions, width = tokens.shape
        asked = self._split(self.ask(tokens).flatten(1, 2))
        shown, taken = (self._split(part) for part in self.show(film).chunk(2, -1))
        attention = torch.softmax(asked @ shown.transpose(-1, -2) / math.sqrt(width / self.heads), -1)
        found = (attention @ taken).transpose(-3, -2).flatten(-2)
        shape = (batch, queries, regions)
        return self.take(found).view(*shape, width), attention.mean(1).view(*shape, -1)

    def _split(self, tokens: Tensor) -> Tensor:
        """(..., n, W) -> (..., heads, n, W / heads)."""
        split = tokens.view(*tokens.shape[:-1], self.heads, -1)
        return split.transpose(-3, -2)


class RegionNetwork(nn.Module):
    """See the module. `known` (20, text_width) are the vectors of QUERIES, which start as their words' and are trained."""

    def __init__(self, shape: QueryShape, dropped: float = 0.1) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width
        self.known = nn.Parameter(torch.zeros(len(QUERIES), shape.text_width))
        self.from_text = nn.Sequential(nn.Linear(shape.text_width, width), nn.LayerNorm(width))
        self.tokens_of_region = nn.Parameter(torch.randn(REGIONS, width) * 0.5)
        self.from_early, self.from_late = nn.Conv2d(shape.early, width, 1), nn.Conv2d(shape.late, width, 1)
        self.from_places = nn.Conv2d(len(FINDINGS) + len(ANATOMY), width, 1)
        self.even = nn.LayerNorm(width)
        self.mix = nn.Conv2d(width, width, 3, padding=1, groups=4)
        self.from_pooled = nn.Sequential(
            nn.LayerNorm(shape.pooled), nn.Linear(shape.pooled, width), nn.LayerNorm(width)
        )
        self.where = nn.Parameter(torch.randn(shape.side * shape.side, width) * 0.1)
        self.dropout = nn.Dropout(dropped)
        self.blocks = nn.ModuleList(Block(shape, dropped) for _ in range(shape.blocks))
        self.last = nn.LayerNorm(width)
        self.box = _mlp(width, width, 4)
        self.out = _mlp(width, width, width)
        self.weight = nn.Linear(width, 1)
        self.gate = _mlp(2 * width, width, 1)
        self.presence, self.of_whole = _mlp(width, width, 1), nn.Linear(shape.text_width, width)
        self.alike_region, self.alike_text = nn.Linear(width, width), nn.Linear(shape.text_width, width)
        self.cells: Tensor
        self.register_buffer("cells", _centres(shape.side), persistent=False)

    def look(self, maps: FilmMaps) -> Seen:
        """The film's places, each with what its surroundings show, and the film as a whole."""
        size = maps.early.shape[-2:]
        late = functional.interpolate(self.from_late(maps.late), size=size, mode="bilinear")
        joined = self.from_early(maps.early) + late + self.from_places(maps.places / 4.0)
        even = self.even(self.dropout(joined).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        places = (even + self.mix(functional.gelu(even))).flatten(2).transpose(1, 2) + self.where
        return Seen(places, self.from_pooled(self.dropout(maps.pooled)))

    def locate(self, seen: Seen, asked: Tensor) -> Located:
        """Text vectors (Q, T), or (B, Q, T) of each film's own -> answers."""
        asked = asked.expand(len(seen.places), *asked.shape[-2:])
        tokens = self.from_text(asked)[:, :, None] + self.tokens_of_region
        film = torch.cat([seen.places, seen.whole[:, None]], 1)
        for block in self.blocks:
            tokens, attention = block(tokens, film)
        tokens, attention = self.last(tokens), attention[..., :-1] + _TINY
        attention = attention / attention.sum(-1, keepdim=True)
        boxes = self._boxes(tokens, attention)
        regions = self.out((tokens + pool(seen.places, boxes, self.shape.side)) / 2)
        weights = self.weight(regions)[..., 0]
        share = torch.sigmoid(weights)[..., None]
        total = share.sum(2).clamp(min=_TINY)
        return Located(boxes, weights, regions, (share * regions).sum(2) / total, (share * attention).sum(2) / total)

    def point(self, seen: Seen, boxes: Tensor) -> Tensor:
        """The features (B, Q, W) of boxes (B, Q, 4) as centre and size: no query, only what lies there."""
        return self.out(pool(seen.places, boxes, self.shape.side))  # type: ignore[no-any-return]

    def gated(self, seen: Seen, known: Tensor) -> Tensor:
        """g (B, 1) in (SHUT, 1 - SHUT): how much the whole film counts against `known` (B, 20, W), the features of QUERIES."""
        found = torch.sigmoid(self.gate(torch.cat([seen.whole, known.mean(1)], -1)))
        return SHUT + (1 - 2 * SHUT) * found

    def present(self, seen: Seen, gate: Tensor, features: Tensor, asked: Tensor) -> Tensor:
        """Logits (B, Q) that what was asked, (Q, T) or (B, Q, T), is there: by what the query saw, and by the whole film."""
        asked = asked.expand(len(features), *asked.shape[-2:])
        likeness: Tensor = (self.of_whole(asked) * (gate * seen.whole)[:, None]).sum(-1) / math.sqrt(self.shape.width)
        return self.local((1 - gate)[:, None] * features) + likeness

    def local(self, features: Tensor) -> Tensor:
        """Logits (B, Q) by what the queries saw alone; asked for in training, so that the features carry the answer."""
        logits: Tensor = self.presence(features)
        return logits[..., 0]

    def tokens(self, seen: Seen, known: Tensor) -> Tensor:
        """Visual tokens (B, 21, W) for a decoder: the gated film as a whole, then the gated features of QUERIES."""
        gate = self.gated(seen, known)[:, None]
        return torch.cat([gate * seen.whole[:, None], (1 - gate) * known], 1)

    def likeness(self, features: Tensor, asked: Tensor) -> Tensor:
        """Cosine (..., K) of region features (..., W) and texts (K, T)."""
        one = functional.normalize(self.alike_region(features), dim=-1)
        return one @ functional.normalize(self.alike_text(asked), dim=-1).T

    def _boxes(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """Centre where the token looks, moved; size from the token."""
        offset = self.box(tokens)
        centre = torch.logit(attention @ self.cells, eps=1e-3) + offset[..., :2]
        return torch.sigmoid(torch.cat([centre, offset[..., 2:] - 1.0], -1))


def _centres(side: int) -> Tensor:
    """Centres x, y (N, 2) of the places, row by row."""
    cells = (torch.arange(side) + 0.5) / side
    return torch.stack([cells.repeat(side), cells.repeat_interleave(side)], -1)
