"""The cache of decoders that write: what transformers' own holds, without a copy for each token."""

from __future__ import annotations

import torch
from transformers import DynamicCache, LlamaConfig, LlamaModel

from limner.models.cached import roomy_cache


@torch.no_grad()
def test_states_are_those_of_transformers_own_cache_and_stay_where_they_were_written() -> None:
    config = LlamaConfig(vocab_size=7, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
    torch.manual_seed(0)
    model = LlamaModel(config).eval()
    ours, theirs = roomy_cache(config, 9), DynamicCache(config=config)
    ids, places = torch.randint(7, (3, 9)), []
    for start, end in ((0, 4), (4, 5), (5, 7), (7, 9)):
        found = [model(ids[:, start:end], past_key_values=cache, use_cache=True)[0] for cache in (ours, theirs)]
        torch.testing.assert_close(*found, atol=1e-6, rtol=0)
        torch.testing.assert_close(ours.layers[1].values, theirs.layers[1].values, atol=1e-6, rtol=0)
        places.append([layer.keys.data_ptr() for layer in ours.layers])
    torch.testing.assert_close(found[0], model(ids, use_cache=False)[0][:, 7:], atol=1e-6, rtol=0)
    assert places == [places[0]] * 4 and ours.get_seq_length() == 9
