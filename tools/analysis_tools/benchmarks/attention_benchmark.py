"""Memory of attention over the number of tokens: fused, and written out.

Axes: B batch, Q query tokens, K context tokens, C channels, H heads, D channels of a head.
"""

import sys
from itertools import pairwise

import torch
from torch import Tensor, nn

from benchmarks.allocated_memory import peak_mib
from benchmarks.results import Measurement, Options, Ratio, Result
from mtl_plugins.models.decode_heads.transformer_heads import Attention

CHANNELS, HEADS, CLASSES, DROPOUT = 256, 4, 19, 0.1
FUSED, WRITTEN_OUT, WITH_DROPOUT = 'fused', 'written out', f'fused, dropout {DROPOUT:g}'
# At its peak the written-out form holds about so many matrices of H x Q x K numbers.
MATRICES = 4
LIMIT_MIB = 4096
# Four times the tokens: a linear form takes four times the memory, a quadratic one sixteen times.
LINEAR = 4.4


class WrittenOutAttention(Attention):
    """``out(softmax(q k^T / sqrt(D)) v)`` as it stands, with all its Q x K matrices."""

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        context = tokens if context is None else context
        query_BHQD, key_BHKD, value_BHKD = (
            projected.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projected in (self.query(tokens), self.key(context), self.value(context))
        )
        weights_BHQK = (query_BHQD @ key_BHKD.transpose(2, 3) / query_BHQD.shape[-1] ** 0.5).softmax(-1)
        return self.out((weights_BHQK @ value_BHKD).transpose(1, 2).flatten(2))


def run(options: Options) -> Result:
    """Peak memory of forward and backward, without weights and inputs; a form that would need more than 4 GiB is left out."""
    torch.manual_seed(options.seed)
    lengths = (64, 256) if options.quick else (256, 1024, 4096, 16384)
    pixels = (256, 1024) if options.quick else (1024, 4096, 16384, 65536)
    forms = {
        FUSED: Attention(CHANNELS, num_heads=HEADS),
        WRITTEN_OUT: WrittenOutAttention(CHANNELS, num_heads=HEADS),
        WITH_DROPOUT: Attention(CHANNELS, num_heads=HEADS, dropout=DROPOUT),
    }
    raw, left_out = {}, []
    for kind, sizes in (('self', lengths), ('cross', pixels)):
        for form, module in forms.items():
            for size in sizes:
                queries = size if kind == 'self' else CLASSES
                # Only a CPU is known to fall back to it for dropout.
                quadratic = form == WRITTEN_OUT or (form == WITH_DROPOUT and options.device == 'cpu')
                estimate = MATRICES * HEADS * queries * size * 4 / 2**20 if quadratic else 0
                name = contender(kind, form, size)
                if estimate > LIMIT_MIB:
                    left_out.append(f'{name}: about {estimate / 1024:.0f} GiB')
                    continue
                print(f'attention: {name}', file=sys.stderr)
                raw[name] = [_peak(module, queries, size if kind == 'cross' else None, options.device)]
    memory = Measurement('peak memory of forward and backward', 'MiB', raw)
    ratios = []
    for kind, sizes in (('self', lengths), ('cross', pixels)):
        for few, many in pairwise(sizes):
            over, under = contender(kind, FUSED, many), contender(kind, FUSED, few)
            ratios.append(Ratio(f'{over} / {few}', memory, over, under, target=LINEAR, bound='most'))
    return Result(
        name='attention',
        settings=dict(
            channels=CHANNELS, heads=HEADS, batch_size=1, class_tokens=CLASSES, tokens=lengths, pixels=pixels, left_out=left_out
        ),
        measurements=[memory],
        ratios=ratios,
    )


def contender(kind: str, form: str, size: int) -> str:
    """Name of one number: ``kind`` is ``'self'`` or ``'cross'``, ``size`` the number of tokens or pixels."""
    return f'{kind}, {form}, {size} {"tokens" if kind == "self" else "pixels"}'


def _peak(module: nn.Module, queries: int, pixels: int | None, device: str) -> float:
    module.to(device).train()
    module.zero_grad()
    tokens = torch.randn(1, queries, CHANNELS, device=device, requires_grad=True)
    context = None if pixels is None else torch.randn(1, pixels, CHANNELS, device=device, requires_grad=True)
    return peak_mib(lambda: module(tokens, context).sum().backward(), device)


def memory_in_markdown(result: dict) -> str:
    """MiB over tokens and over pixels, each beside its ratio to the row before, of this benchmark's part of the document."""
    medians = {name: row['median'] for name, row in result['measurements'][0]['contenders'].items()}
    lines = []
    for kind, sizes, title in (
        ('self', result['settings']['tokens'], 'tokens, self-attention'),
        ('cross', result['settings']['pixels'], f'pixels, attended to by {result["settings"]["class_tokens"]} class tokens'),
    ):
        forms = (FUSED, WRITTEN_OUT, WITH_DROPOUT)
        lines += ['', f'| {title} | ' + ' | '.join(f'{form} (MiB) | ratio' for form in forms) + ' |', '|--:' * 7 + '|']
        for index, size in enumerate(sizes):
            cells = [str(size)]
            for form in forms:
                here = medians.get(contender(kind, form, size))
                before = medians.get(contender(kind, form, sizes[index - 1])) if index else None
                cells.append('left out' if here is None else f'{here:.1f}')
                cells.append('' if here is None or before is None else f'{here / before:.1f}')
            lines.append(f'| {" | ".join(cells)} |')
    if result['settings']['left_out']:
        lines += ['', f'Left out, as they would need too much memory: {"; ".join(result["settings"]["left_out"])}.']
    return '\n'.join(lines) + '\n'
